//! The server's side: a program whose `main` does nothing but this.

use std::any::Any;
use std::io::{self, Read as _};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;

use bulkhead_wit::encoding::{
    decode_config, decode_inputs, encode_config, encode_description, encode_outputs, encode_summaries,
};
use bulkhead_wit::{Batch, Config, Module, Outputs, Time, limits};

use super::channel::{Answer, Channel, Request, Server};
use super::privileges;
use super::region::{FROM_SERVER, Region, TO_SERVER};

/// Bytes of a module's sentence that are handed on.
const TEXT: usize = 4096;

/// Serves this module to the program that started this one, until that one has enough or is gone: does not come back
/// before. To be called first thing from `main`, while there is one thread.
///
/// Before the module is entered for the first time, the process has become nobody where it was root, can get no
/// privileges, open no file, and make no system call but those to wait, to wake its host, to take memory up to a bound,
/// and to end.
pub fn serve(module: Box<dyn Module>) -> ExitCode {
    match prepare() {
        Ok(channel) => {
            Serving { module, channel, batch: Batch::default(), outputs: Outputs::default() }.run();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("a module server is started by bulkhead itself, over shared memory: {error}");
            ExitCode::FAILURE
        }
    }
}

fn prepare() -> io::Result<Channel<Server>> {
    let region = Region::open(&io::stdout())?;
    privileges::leave_user()?;
    // The host's end of the pipe is closed when it has enough, and by the system when it ends in whatever way.
    let (begun, is_watching) = std::sync::mpsc::sync_channel(1);
    std::thread::Builder::new().stack_size(64 << 10).spawn(move || {
        let mut host = io::stdin().lock();
        let _ = begun.send(());
        let _ = host.read(&mut [0]);
        std::process::exit(0);
    })?;
    // A thread that begins makes system calls of its own; it has made them when it says so.
    is_watching.recv().map_err(io::Error::other)?;
    std::panic::set_hook(Box::new(remember));
    privileges::leave_system()?;
    Ok(Channel::of_server(region))
}

/// The last panic: where, and what.
static PANIC: Mutex<Option<Said>> = Mutex::new(None);

fn remember(panic: &PanicHookInfo<'_>) {
    let mut said = Said { text: text_of(panic.payload()), ..Said::default() };
    if let Some(place) = panic.location() {
        (said.file, said.line) = (place.file().to_owned(), Some(place.line()));
    }
    if let Ok(mut last) = PANIC.lock() {
        *last = Some(said);
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// A sentence of the module's, and where it was said.
#[derive(Default, Debug)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) file: String,
    pub(super) line: Option<u32>,
}

impl Said {
    /// Lines: file, line, and the text.
    fn write(&self) -> Vec<u8> {
        let line = self.line.unwrap_or(0);
        let text: String = self.text.chars().take(TEXT / 4).collect();
        format!("{}\n{line}\n{text}", self.file).into_bytes()
    }

    /// What [`write`](Self::write) wrote, or anything else.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes.get(..TEXT.min(bytes.len())).unwrap_or_default());
        let mut parts = text.splitn(3, '\n').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        let (file, line) = (next(), next().parse().ok());
        Self { file, line, text: next() }
    }
}

/// A configuration, the time and a saved state.
pub(super) fn put_load(config: &Config, now: Time, state: &[u8], bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&[0; 4]);
    encode_config(config, bytes);
    let length = u32::try_from(bytes.len().saturating_sub(4)).unwrap_or(u32::MAX);
    if let Some(first) = bytes.first_chunk_mut() {
        *first = length.to_le_bytes();
    }
    bytes.extend_from_slice(&now.to_le_bytes());
    bytes.extend_from_slice(state);
}

fn take_load(bytes: &[u8]) -> Option<(Config, Time, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (config, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let (now, state) = rest.split_first_chunk()?;
    Some((decode_config(config).ok()?, Time::from_le_bytes(*now), state))
}

struct Serving {
    module: Box<dyn Module>,
    channel: Channel<Server>,
    batch: Batch,
    outputs: Outputs,
}

impl Serving {
    fn run(mut self) {
        let (mut request, mut answer) = (Vec::new(), Vec::new());
        loop {
            let Some((kind, length)) = self.channel.wait(None) else { continue };
            answer.clear();
            if !self.channel.region().read(TO_SERVER, length, &mut request) {
                return;
            }
            let bytes = request.get(..length).unwrap_or_default();
            // Unwind safety: after a panic nothing of the module is looked at again.
            let outcome = catch_unwind(AssertUnwindSafe(|| self.answer(kind, bytes, &mut answer)));
            let answered = outcome.unwrap_or_else(|_| {
                let said = PANIC.lock().ok().and_then(|mut last| last.take()).unwrap_or_default();
                answer = said.write();
                Answer::Panicked
            });
            let answered = if self.channel.region().write(FROM_SERVER, &answer) {
                answered
            } else {
                answer.clear();
                Answer::TooLong
            };
            self.channel.post(answered as u32, answer.len());
            if matches!(answered, Answer::Panicked | Answer::TooLong) {
                // Not by way of destructors, which may panic over a broken state.
                std::process::exit(1);
            }
        }
    }

    fn answer(&mut self, kind: u32, bytes: &[u8], answer: &mut Vec<u8>) -> Answer {
        let refused = |text: String, answer: &mut Vec<u8>| {
            *answer = Said { text, ..Said::default() }.write();
            Answer::Refused
        };
        match Request::of(kind) {
            Some(Request::Describe) => encode_description(&self.module.describe(), answer),
            Some(Request::Start) => {
                // Payload would have to be copied into shared memory before anybody asks for it.
                if self.module.has_payload() {
                    let text = "a module with payload access is not served in a process of its own";
                    return refused(text.to_owned(), answer);
                }
                let started = decode_config(bytes).map_err(|error| error.to_string());
                if let Err(text) = started.and_then(|config| self.module.start(&config)) {
                    return refused(text, answer);
                }
            }
            Some(Request::Step) => {
                if let Err(error) = decode_inputs(bytes, &mut self.batch) {
                    return refused(error.to_string(), answer);
                }
                self.outputs.clear();
                self.module.step(&self.batch.inputs(), &mut self.outputs);
                encode_outputs(&self.outputs, answer);
            }
            Some(Request::Save) => {
                *answer = self.module.save();
                if answer.len() > limits::SAVE {
                    return Answer::TooLong;
                }
            }
            Some(Request::Load) => {
                let loaded = take_load(bytes).ok_or_else(|| "a request that is none".to_owned());
                match loaded.and_then(|(config, now, state)| self.module.load(&config, now, state)) {
                    Ok(summaries) => encode_summaries(&summaries, answer),
                    Err(text) => return refused(text, answer),
                }
            }
            None => return refused("a request that is none".to_owned(), answer),
        }
        Answer::Done
    }
}
