//! The control socket of a running instance: a line of JSON asks, a line of JSON answers.
//!
//! Whoever may open it may see every connection, so it is the owner's alone (mode 0600).

use std::fs::DirBuilder;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::private_socket;

/// Bytes of a question.
const QUESTION: u64 = 64 << 10;
/// Those who ask at a time.
const ASKING: usize = 16;
/// How long a question may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a socket that is left waits for its last answers to be read.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// How long whoever asks waits.
const PATIENCE_OF_ASKING: Duration = Duration::from_secs(60);

/// Where the socket of the instance on this interface is, if nobody says otherwise.
pub(super) fn path_for(tun: &str) -> PathBuf {
    let folder = match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(folder) if !folder.is_empty() => PathBuf::from(folder),
        _ => PathBuf::from("/run"),
    };
    folder.join("bulkhead").join(format!("{tun}.sock"))
}

/// A socket that is gone when this is.
#[derive(Debug)]
pub(super) struct Control {
    path: PathBuf,
    listener: StdListener,
    places: Arc<Semaphore>,
    is_left: bool,
}

impl Drop for Control {
    fn drop(&mut self) {
        if !self.is_left {
            // Somebody may have removed it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Control {
    /// A socket that somebody has opened at this path.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn new(path: PathBuf, listener: StdListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { path, listener, places: Arc::new(Semaphore::new(ASKING)), is_left: false })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A second name of its descriptor.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        Ok(self.listener.try_clone()?.into())
    }

    /// It was and is somebody else's.
    pub(super) fn forget(mut self) {
        self.is_left = true;
    }

    /// It is somebody else's from now on, who has its descriptor. Waits a moment for those who have asked to have read their
    /// answers.
    pub(super) async fn leave(mut self) {
        self.is_left = true;
        let all = self.places.acquire_many(ASKING as u32);
        // Whoever keeps a connection open for its next question is not waited for.
        let _ = tokio::time::timeout(LAST_ANSWERS, all).await;
    }

    /// Opens the socket, in the place of one that nobody listens on any more.
    ///
    /// # Errors
    /// A line that says what to do.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        if let Some(folder) = path.parent()
            && !folder.as_os_str().is_empty()
            && !folder.exists()
        {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .with_context(|| format!("cannot make {} for the control socket", folder.display()))?;
        }
        let bound = private_socket::bind(path, StdStream::connect, StdListener::bind);
        let listener = bound.with_context(|| {
            format!("cannot make the control socket {}; name another one with --control", path.display())
        })?;
        Ok(Self::new(path.to_owned(), listener)?)
    }

    /// Answers until it is dropped. `answer` gives what to say to a command.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn serve(
        &self,
        answer: impl Fn(&str, &Value) -> Value + Send + Sync + 'static,
    ) -> io::Result<impl Future<Output = ()> + Send + 'static> {
        let listener = UnixListener::from_std(self.listener.try_clone()?)?;
        Ok(answering(listener, Arc::new(answer), Arc::clone(&self.places)))
    }
}

async fn answering(
    listener: UnixListener,
    answer: Arc<impl Fn(&str, &Value) -> Value + Send + Sync + 'static>,
    places: Arc<Semaphore>,
) {
    loop {
        // A semaphore that is never closed gives a permit.
        let place = Arc::clone(&places).acquire_owned().await.ok();
        match listener.accept().await {
            Ok((stream, _)) => {
                let answer = Arc::clone(&answer);
                tokio::spawn(async move {
                    if let Err(error) = one(stream, answer).await {
                        tracing::debug!(%error, "a question to the control socket failed");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket does not accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn one(
    stream: UnixStream,
    answer: Arc<impl Fn(&str, &Value) -> Value + Send + Sync + 'static>,
) -> io::Result<()> {
    let (reading, mut writing) = stream.into_split();
    let mut lines = BufReader::new(reading);
    loop {
        let mut line = String::new();
        let reading = (&mut lines).take(QUESTION).read_line(&mut line).await;
        if tokio::time::timeout(PATIENCE, async { reading }).await?? == 0 {
            return Ok(());
        }
        let said = match serde_json::from_str::<Value>(&line) {
            Ok(question) => {
                // An answer may take its time: a module is compiled.
                let answer = Arc::clone(&answer);
                let asked = move || answer(question["command"].as_str().unwrap_or_default(), &question);
                tokio::task::spawn_blocking(asked).await.map_err(io::Error::other)?
            }
            Err(error) => json!({ "error": format!("no JSON: {error}") }),
        };
        writing.write_all(format!("{said}\n").as_bytes()).await?;
    }
}

/// Asks a running instance.
///
/// # Errors
/// A line that says what to do.
pub(super) fn ask(path: &Path, question: &Value) -> anyhow::Result<Value> {
    ask_within(path, question, PATIENCE_OF_ASKING)
}

/// Asks a running instance what may take its time.
///
/// # Errors
/// A line that says what to do.
pub(super) fn ask_within(path: &Path, question: &Value, patience: Duration) -> anyhow::Result<Value> {
    use std::io::{BufRead as _, BufReader, Write as _};
    let mut stream = StdStream::connect(path).with_context(|| {
        format!("{}: no running instance answers here; name its interface with --tun", path.display())
    })?;
    stream.set_read_timeout(Some(patience))?;
    writeln!(stream, "{question}")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).context("the instance does not answer")?;
    let said: Value = serde_json::from_str(&line).context("the instance's answer cannot be read")?;
    if let Some(error) = said["error"].as_str() {
        anyhow::bail!("the instance says: {error}");
    }
    Ok(said)
}
