//! `bulkhead upgrade`: another process, of this program or of a newer one, in the place of a running instance.
//!
//! The running instance starts the successor with its own command line and a socket to talk over. While the successor makes
//! itself ready (it compiles its module), everything goes on. Then applications and stack stand still for some milliseconds: the
//! state of both, and every descriptor, goes over; the successor says that it took over; the running instance lets go, and ends.
//! Whatever fails before that word, the successor is ended, and everything goes on as if nothing had happened.
//!
//! - `channel`: how the two talk;
//! - `pack`: applications that stand still, in bytes and descriptors;
//! - `successor`: the other side.

mod channel;
mod pack;
mod successor;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bulkhead::net::{HandOver, NetError, Taken};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::arguments::{Run, Upgrade};
use super::capture::Capture;
use super::control::ask_within;
use super::ready::{Place, Ready, Resting};
use super::report::{bytes, print};
use super::running::Running;
use channel::{Channel, Message};
use pack::{Packed, Packer, Unpacker};
pub(super) use successor::{Predecessor, take_over};

/// How long a successor may take to be ready: it compiles its module.
const READY: Duration = Duration::from_secs(120);
/// How long applications may take to stand still.
const STANDING: Duration = Duration::from_secs(2);
/// How long everything may stand still while the successor takes over.
const TAKING: Duration = Duration::from_secs(20);
/// The option by which this program becomes a successor; its predecessor is on its standard input.
const TAKE_OVER: &str = "--take-over";

/// Somebody asks the running instance for a successor.
pub(super) struct Asked {
    pub(super) program: Option<PathBuf>,
    pub(super) reply: oneshot::Sender<Value>,
}

/// Asks a running instance to hand over.
///
/// # Errors
/// A line that says what to do.
pub(super) fn upgrade(upgrade: &Upgrade) -> anyhow::Result<ExitCode> {
    let program = upgrade.program.as_ref().map(|program| {
        // The instance may have another working directory.
        program.canonicalize().with_context(|| format!("cannot read {}", program.display()))
    });
    let question = json!({ "command": "upgrade", "program": program.transpose()? });
    let said = ask_within(&upgrade.whom.path(), &question, READY + STANDING + 2 * TAKING)?;
    let said = if upgrade.whom.json {
        format!("{said}\n")
    } else {
        format!(
            "process {} of version {} has taken over {} connections, {} of state, pause {:.2} ms\n",
            said["pid"],
            said["version"].as_str().unwrap_or("?"),
            said["connections"],
            bytes(said["state_bytes"].as_u64().unwrap_or(0)),
            said["pause_ns"].as_u64().unwrap_or(0) as f64 / 1e6
        )
    };
    print(&said)?;
    Ok(ExitCode::SUCCESS)
}

/// What cannot be handed on, while nothing is touched.
fn refused(running: &Running) -> anyhow::Result<()> {
    match running.ready.iter().find_map(Ready::holds) {
        Some(reason) => bail!("not upgraded, nothing has changed: {reason}"),
        None => Ok(()),
    }
}

/// Hands a running instance over. Once this has succeeded, nothing of it runs any more.
///
/// # Errors
/// Why nothing has changed.
pub(super) async fn hand_over(
    run: &Run,
    running: &mut Running,
    program: Option<PathBuf>,
) -> anyhow::Result<Value> {
    refused(running)?;
    let program = program.map_or_else(|| run.program.clone().context("this program has no file"), Ok)?;
    let greeting = successor::greeting(running)?;
    let words = words_of_successor(&run.words);
    let made = tokio::task::spawn_blocking(move || Successor::start(&program, &words, greeting)).await;
    let mut successor = made.context("a thread has failed")??;
    let begun = Instant::now();
    // Nobody swaps a module of a stack that stands still.
    let swapping = running.swapping.clone();
    let Ok(_held) = swapping.try_lock_owned() else {
        bail!("not upgraded, nothing has changed: a module is being swapped");
    };
    let resting = stand_still(running).await?;
    let mut packer = match Packer::new(running.stacks.nets()) {
        Ok(packer) => packer,
        Err(error) => {
            running.go_on(resting);
            return Err(error).context("not upgraded, everything goes on");
        }
    };
    // Nothing more comes into them here, and the successor goes on behind it.
    running.files().for_each(Capture::write_out);
    resting.into_iter().for_each(|(place, resting)| packer.add(place, resting));
    let (packed, handing) = packer.finish();
    let counts = json!(successor::counts(&running.ready));
    let (sent, packed) = successor.take(packed, counts, &handing).await;
    let (state, said) = match sent {
        Ok(sent) => sent,
        Err(error) => {
            // It must never run.
            drop(successor);
            let taken = handing.into_iter().map(HandOver::go_on).collect();
            running.go_on(unpacked(packed, taken)?);
            return Err(error.context("not upgraded, everything goes on"));
        }
    };
    running.files().for_each(Capture::leave);
    handing.into_iter().for_each(HandOver::complete);
    let pid = successor.go();
    let pause = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    eprintln!("bulkhead: process {pid} has taken over");
    Ok(json!({
        "pid": pid, "version": said["version"], "connections": said["connections"], "state_bytes": state,
        "pause_ns": pause,
    }))
}

fn unpacked(packed: Packed, taken: Vec<Taken>) -> anyhow::Result<Vec<(Place, Resting)>> {
    let Packed { plan, texts, descriptors } = packed;
    Unpacker::new(taken, descriptors, texts).unpack(&plan)
}

/// Every application stands still, or all go on.
async fn stand_still(running: &mut Running) -> anyhow::Result<Vec<(Place, Resting)>> {
    running.stopper.stand();
    let mut standing = Vec::new();
    let all = async {
        while let Some(ended) = running.tasks.join_next().await {
            match ended.context("an application failed")? {
                (place, Ok(Some(resting))) => standing.push((place, resting)),
                (_, Ok(_)) => bail!("an application has ended by itself"),
                (_, Err(error)) => return Err(error.into()),
            }
        }
        Ok(())
    };
    let result = tokio::time::timeout(STANDING, all).await;
    let why = match result {
        Ok(Ok(())) => return Ok(standing),
        Ok(Err(error)) => error,
        Err(_) => {
            let still =
                |application: &usize| !standing.iter().any(|(place, _)| place.application == *application);
            let busy = (0..running.ready.len()).find(still).and_then(|number| running.ready.get(number));
            let name =
                busy.map_or_else(|| "an application".to_owned(), |ready| ready.application.to_string());
            anyhow::anyhow!("{name} has not come to rest within {} s; try again", STANDING.as_secs())
        }
    };
    running.go_on(standing);
    Err(why.context("not upgraded, everything goes on"))
}

/// The same command line, as it was understood: its file of options is not read again.
fn words_of_successor(words: &[OsString]) -> Vec<OsString> {
    let mut out = Vec::new();
    let mut words = words.iter().skip(1);
    let mut is_run = false;
    while let Some(word) = words.next() {
        let text = word.to_str().unwrap_or_default();
        if text == TAKE_OVER || text.starts_with("--config=") {
            continue;
        }
        if text == "--config" {
            words.next();
            continue;
        }
        out.push(word.clone());
        if text == "run" && !std::mem::replace(&mut is_run, true) {
            out.push(TAKE_OVER.into());
        }
    }
    out
}

/// The process that is to take over. It is ended with this, unless it was told to [go](Self::go).
struct Successor {
    child: Option<Child>,
    channel: Option<Channel>,
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Successor {
    /// Starts it and waits until it is ready.
    fn start(program: &Path, words: &[OsString], greeting: Message) -> anyhow::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let child = Command::new(program)
            .args(words)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .with_context(|| {
                format!("not upgraded, nothing has changed: cannot start {}", program.display())
            })?;
        let mut successor = Self { child: Some(child), channel: None };
        let mut channel = Channel::new(ours);
        let said = channel.send(&greeting, TAKING).map_err(anyhow::Error::new);
        // What it says of itself tells more than a socket that is closed.
        let heard = channel.expect("ready", READY);
        if let Err(error) = heard.and(said) {
            let ended = successor.ended().map_or_else(String::new, |how| format!(" ({how})"));
            let whose = program.display();
            return Err(error.context(format!("not upgraded, nothing has changed: {whose}{ended}")));
        }
        successor.channel = Some(channel);
        Ok(successor)
    }

    /// How it has ended, if it has, or is about to.
    fn ended(&mut self) -> Option<String> {
        let child = self.child.as_mut()?;
        for _ in 0..20 {
            if let Ok(Some(status)) = child.try_wait() {
                return Some(status.to_string());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// Gives it everything, and waits for its word that it has taken over. What was given comes back in any case.
    async fn take(
        &mut self,
        packed: Packed,
        counts: Value,
        handing: &[HandOver],
    ) -> (anyhow::Result<(usize, Value)>, Packed) {
        let encoded: Result<Vec<Vec<u8>>, _> = handing.iter().map(HandOver::encode).collect();
        let (states, mut channel) = match (encoded, self.channel.take()) {
            (Ok(states), Some(channel)) => (states, channel),
            (Err(error), _) => return (Err(error.into()), packed),
            (_, None) => return (Err(NetError::DriverGone.into()), packed),
        };
        let lengths: Vec<usize> = states.iter().map(Vec::len).collect();
        let exchange = move || {
            let mut body = states.concat();
            body.extend_from_slice(&packed.texts);
            let head = json!({ "state": lengths, "plan": packed.plan, "counts": counts });
            let message = Message { head, body, descriptors: packed.descriptors };
            let sent = channel.send(&message, TAKING).map_err(anyhow::Error::new);
            let heard = channel.expect("taken", TAKING);
            let result = heard.and_then(|heard| sent.map(|()| heard.head["taken"].clone()));
            let packed = Packed { descriptors: message.descriptors, ..packed };
            (result, lengths.iter().sum::<usize>(), packed, channel)
        };
        // A thread that panics takes descriptors along, and the program with it.
        let (result, length, packed, channel) = match tokio::task::spawn_blocking(exchange).await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        self.channel = Some(channel);
        let result = result.and_then(|said| match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(None)) => Ok((length, said)),
            _ => bail!("it has ended"),
        });
        (result.context("the successor"), packed)
    }

    /// It runs from here on. Says which process it is.
    fn go(mut self) -> u32 {
        if let Some(channel) = &mut self.channel {
            // What is gone cannot be had back.
            if let Err(error) = channel.say(json!({ "go": true })) {
                eprintln!("bulkhead: the successor has gone away with everything: {error}");
            }
        }
        self.child.take().map_or(0, |child| child.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_has_the_same_words() {
        let words = |line: &str| -> String {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let words = words_of_successor(&words);
            words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(words("bulkhead -v run http run"), "-v run --take-over http run");
        assert_eq!(
            words("bulkhead run --take-over --config /a --tun=tun7 --config=/b echo"),
            "run --take-over --tun=tun7 echo"
        );
    }
}
