//! `bulkhead replay`: a recording, fed to a module.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use bulkhead::artifact::Artifact;
use bulkhead::device::pcap::PcapWriter;
use bulkhead::fault::Fault;
use bulkhead::placement::Instance;
use bulkhead::record::{
    Direction, End, Entry, Header, Outcome, ReadError, Reader, checkpoint_before, redact, segment,
};
use bulkhead_wit::encoding::decode_inputs;
use bulkhead_wit::{Batch, Inputs, Kind, Outputs};
use serde_json::{Value, json};

use super::arguments::{Placement, Replay};
use super::module::{Module, artifact, name};
use super::report::print;

pub(super) type Instances = Box<dyn FnMut() -> Result<Box<dyn Instance>, Fault>>;

/// Feeds a recording to a module.
///
/// # Errors
/// A line that says what is wrong with the recording, or with the command line.
pub(super) fn replay(replay: &Replay) -> anyhow::Result<ExitCode> {
    let path = replay.file.display();
    let open = || -> anyhow::Result<_> {
        let file = File::open(&replay.file).with_context(|| path.to_string())?;
        Reader::new(BufReader::new(file)).with_context(|| path.to_string())
    };
    let mut reader = open()?;
    let header = reader.header().clone();
    if let Some(copy) = &replay.redact {
        return redacted(&mut reader, copy, &path.to_string());
    }
    if header.is_redacted {
        return read_only(replay, reader, &header).with_context(|| path.to_string());
    }
    let (mut make, mut about) = instances(replay.placement, replay.module.as_deref(), &header)?;
    if header.has_payload {
        about.push_str(" (the recording holds bytes of applications)");
    }
    let from = match replay.from {
        None => None,
        Some(step) => {
            let found =
                checkpoint_before(&mut reader, step.saturating_sub(1)).with_context(|| path.to_string())?;
            reader = open()?;
            found.map(|(number, _)| number)
        }
    };
    let mut shown = Shown { prints: replay.print && !replay.json, pcap: None };
    if let Some(path) = &replay.pcap {
        shown.pcap = Some(capture(path, &header)?);
    }
    let compares_states = make().is_ok_and(|instance| *instance.description() == header.description);
    let until = replay.until.unwrap_or(u64::MAX);
    let outcome = bulkhead::record::Replay::new(&mut *make, compares_states)
        .run(&mut reader, from, until, &mut |step, inputs, result| shown.step(step, inputs, result))
        .with_context(|| path.to_string())?;
    shown.end()?;
    let is_equal = matches!(outcome.end, End::Complete | End::CutOff | End::Until);
    print(&if replay.json {
        format!("{:#}\n", json_of(&outcome, &header, &about))
    } else {
        text_of(&outcome, &about)
    })?;
    Ok(if is_equal { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes a copy for others. It is for its owner alone until he decides otherwise.
fn redacted(reader: &mut Reader<BufReader<File>>, copy: &Path, path: &str) -> anyhow::Result<ExitCode> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(copy);
    let file = made.with_context(|| format!("{}: cannot write there", copy.display()))?;
    let result = redact(reader, &mut BufWriter::new(file));
    let steps = match result {
        Ok(steps) => steps,
        Err(error) => {
            // Half of a copy is none.
            let _ = std::fs::remove_file(copy);
            return Err(error).with_context(|| path.to_owned());
        }
    };
    print(&format!(
        "{}: {steps} steps, without addresses, ports, seed, states and hashes\n",
        copy.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// A redacted recording: what went in is shown, and no module is there.
fn read_only(
    replay: &Replay,
    mut reader: Reader<BufReader<File>>,
    header: &Header,
) -> anyhow::Result<ExitCode> {
    if !replay.print && replay.pcap.is_none() {
        return Err(ReadError::Redacted.into());
    }
    let pcap = replay.pcap.as_deref().map(|path| capture(path, header)).transpose()?;
    let mut shown = Shown { prints: replay.print, pcap };
    let (mut batch, mut steps) = (Batch::default(), 0);
    while let Some(entry) = reader.next_entry()? {
        match entry {
            Entry::Load(saved) | Entry::Checkpoint(saved) => steps = saved.steps,
            Entry::Step(bytes) => {
                decode_inputs(bytes, &mut batch)?;
                shown.step(steps + 1, &batch.inputs(), &Ok(&Outputs::default()));
            }
            Entry::Outputs(_) => steps += 1,
            Entry::Fault(failure) if replay.print => print(&format!("         ! {}\n", failure.text))?,
            Entry::Fault(_) | Entry::Start(_) | Entry::Payload(_) | Entry::End => {}
        }
    }
    shown.end()?;
    print(&format!("redacted: {steps} steps were read, none was done again\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// What makes instances of the module that is asked for, and a line about it.
pub(super) fn instances(
    placement: Option<Placement>,
    module: Option<&Path>,
    header: &Header,
) -> anyhow::Result<(Instances, String)> {
    let recorded = &header.identity;
    let placement = match (placement, recorded.placement.as_str()) {
        (Some(placement), _) => placement,
        (None, "native") if module.is_none() => Placement::Native,
        (None, _) => Placement::Wasm,
    };
    if placement != Placement::Wasm {
        let module = Module::of(placement, module)?;
        let about = module.about();
        return Ok((Box::new(move || module.instance()), about));
    }
    let found = match module {
        Some(path) => artifact(Some(path))?,
        None => bundled(recorded.hash, header)?,
    };
    let about = format!("{} in a sandbox", name(found.description()));
    Ok((Box::new(move || Ok(Box::new(found.fresh()?) as Box<dyn Instance>)), about))
}

/// The bundled module that was recorded; any will do for a recording that was made natively.
fn bundled(hash: Option<[u8; 32]>, header: &Header) -> anyhow::Result<Artifact> {
    let (tcp, udp) = (Artifact::bundled()?, Artifact::bundled_udp()?);
    let is_recorded = |artifact: &Artifact| match hash {
        Some(hash) => artifact.facts().hash == hash,
        None => artifact.description().name == header.description.name,
    };
    match [tcp, udp].into_iter().find(is_recorded) {
        Some(found) => Ok(found),
        None => bail!(
            "the recording is of {}, another file than the bundled one; give it with --module, or try another \
             module with it",
            name(&header.description)
        ),
    }
}

type Pcap = PcapWriter<BufWriter<File>>;

fn capture(path: &Path, header: &Header) -> anyhow::Result<Pcap> {
    let failed = || format!("{}: cannot write segments there", path.display());
    let file = BufWriter::new(File::create(path).with_context(failed)?);
    PcapWriter::new(file, header.origin).with_context(failed)
}

/// Where steps are shown.
struct Shown {
    prints: bool,
    pcap: Option<Pcap>,
}

impl Shown {
    fn step(&mut self, step: u64, inputs: &Inputs<'_>, result: &Result<&Outputs, Fault>) {
        if self.prints {
            let text = match result {
                Ok(outputs) => format!("{}{}", inputs_text(step, inputs), outputs_text(inputs, outputs)),
                Err(fault) => format!("{}         ! {fault}\n", inputs_text(step, inputs)),
            };
            // A reader that has gone away has seen enough.
            let _ = print(&text);
        }
        let Some(pcap) = &mut self.pcap else { return };
        for one in inputs.segments {
            pcap.write_header(
                inputs.now,
                &whole(header_of(inputs.headers, one.header, one.header_length), one.payload),
                one.payload,
            );
        }
        for one in result.iter().flat_map(|outputs| &outputs.sends) {
            let Ok(outputs) = result else { continue };
            let header = header_of(&outputs.headers, one.header, one.header_length);
            pcap.write_header(inputs.now, &whole(header, one.length), one.length);
        }
    }

    fn end(self) -> io::Result<()> {
        let Some(mut pcap) = self.pcap else { return Ok(()) };
        pcap.flush();
        pcap.take_error().map_or(Ok(()), Err)
    }
}

pub(super) fn header_of(headers: &[u8], at: u32, length: u16) -> &[u8] {
    headers.get(at as usize..).and_then(|rest| rest.get(..usize::from(length))).unwrap_or_default()
}

/// A header with the length field that its frame would have; checksums are left as they are.
fn whole(header: &[u8], payload: u32) -> Vec<u8> {
    let mut header = header.to_vec();
    let (place, fixed) = match header.first().map(|first| first >> 4) {
        Some(4) => (2, 0),
        Some(6) => (4, 40),
        _ => return header,
    };
    let length = u32::try_from(header.len()).unwrap_or(0).saturating_sub(fixed).saturating_add(payload);
    if let Some(field) = header.get_mut(place..place + 2) {
        field.copy_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    }
    header
}

fn inputs_text(step: u64, inputs: &Inputs<'_>) -> String {
    let mut text = format!("step {step}\n");
    for call in inputs.calls {
        let _ = writeln!(text, "         {call:?}");
    }
    for position in inputs.positions {
        let _ = writeln!(text, "         {position:?}");
    }
    for message in inputs.messages {
        let _ = writeln!(text, "         {message:?}");
    }
    for one in inputs.segments {
        let header = header_of(inputs.headers, one.header, one.header_length);
        let _ = writeln!(text, "{}", segment(inputs.now, Direction::In, header, one.payload, one.kind));
    }
    text
}

fn outputs_text(inputs: &Inputs<'_>, outputs: &Outputs) -> String {
    let mut text = String::new();
    for send in &outputs.sends {
        let header = header_of(&outputs.headers, send.header, send.header_length);
        let _ = writeln!(text, "{}", segment(inputs.now, Direction::Out, header, send.length, Kind::Whole));
    }
    for place in &outputs.places {
        let _ = writeln!(text, "         = {place:?}");
    }
    for mark in &outputs.marks {
        let _ = writeln!(text, "         = {mark:?}");
    }
    for event in &outputs.events {
        let _ = writeln!(text, "         = {event:?}");
    }
    for note in &outputs.notes {
        let _ = writeln!(text, "         = {note:?}");
    }
    text
}

fn text_of(outcome: &Outcome, about: &str) -> String {
    let mut text = String::new();
    for (step, fault) in &outcome.faults {
        let _ = writeln!(text, "step {step} fails as recorded: {fault}");
    }
    let _ = match &outcome.end {
        End::Complete | End::CutOff | End::Until => {
            let how = match outcome.end {
                End::CutOff => "; the recording is cut off there",
                _ => "",
            };
            let states = match outcome.checkpoints {
                0 => String::new(),
                count => format!(" and the same state at {count} checkpoints"),
            };
            writeln!(text, "{about}: {} steps, the same outputs as recorded{states}{how}", outcome.steps)
        }
        End::Diverged(found) => {
            let inputs = outcome.inputs.inputs();
            let shown =
                format!("{}{}", inputs_text(found.step, &inputs), outputs_text(&inputs, &outcome.outputs));
            writeln!(
                text,
                "{about}: step {} is the first that differs\n  recorded: {}\n  now:      {}\n{shown}",
                found.step, found.recorded, found.now
            )
        }
        End::Failed(fault) => writeln!(text, "{about}: it does not begin: {}", fault.report()),
    };
    text
}

fn json_of(outcome: &Outcome, header: &Header, about: &str) -> Value {
    let (end, divergence) = match &outcome.end {
        End::Complete => ("complete", Value::Null),
        End::CutOff => ("cut-off", Value::Null),
        End::Until => ("until", Value::Null),
        End::Diverged(found) => (
            "diverged",
            json!({ "step": found.step, "recorded": found.recorded.to_string(), "now": found.now.to_string() }),
        ),
        End::Failed(fault) => ("failed", json!({ "fault": fault.to_string() })),
    };
    json!({
        "module": about, "recorded": name(&header.description), "placement": header.identity.placement,
        "program": header.program, "steps": outcome.steps, "checkpoints": outcome.checkpoints, "end": end,
        "divergence": divergence,
        "faults": outcome.faults.iter().map(|(step, text)| json!({ "step": step, "text": text })).collect::<Vec<_>>(),
    })
}
