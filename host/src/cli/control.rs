//! The control socket of a running instance: a line of JSON asks, a line of JSON answers.
//!
//! Whoever may open it may see every connection, so it is the owner's alone (mode 0600).

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustix::fs::Mode;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// Bytes of a question.
const QUESTION: u64 = 64 << 10;
/// Those who ask at a time.
const ASKING: usize = 16;
/// How long a question may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

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
    listener: UnixListener,
}

impl Drop for Control {
    fn drop(&mut self) {
        // Somebody may have removed it.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Control {
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
        let is_socket = std::fs::symlink_metadata(path).is_ok_and(|old| old.file_type().is_socket());
        if is_socket && StdStream::connect(path).is_err() {
            std::fs::remove_file(path).with_context(|| format!("cannot replace {}", path.display()))?;
        }
        // Never open to others, not even for a moment.
        let before = rustix::process::umask(Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(path);
        rustix::process::umask(before);
        let listener = bound.with_context(|| {
            format!("cannot make the control socket {}; name another one with --control", path.display())
        })?;
        Ok(Self { path: path.to_owned(), listener })
    }

    /// Answers until it is dropped. `answer` gives what to say to a command.
    pub(super) async fn serve(self, answer: impl Fn(&str, &Value) -> Value + Send + Sync + 'static) {
        let answer = Arc::new(answer);
        let places = Arc::new(Semaphore::new(ASKING));
        loop {
            // A semaphore that is never closed gives a permit.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            match self.listener.accept().await {
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
    use std::io::{BufRead as _, BufReader, Write as _};
    let mut stream = StdStream::connect(path).with_context(|| {
        format!("{}: no running instance answers here; name its interface with --tun", path.display())
    })?;
    stream.set_read_timeout(Some(PATIENCE_OF_ASKING))?;
    writeln!(stream, "{question}")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let said: Value = serde_json::from_str(&line).context("the instance's answer cannot be read")?;
    if let Some(error) = said["error"].as_str() {
        anyhow::bail!("the instance says: {error}");
    }
    Ok(said)
}
