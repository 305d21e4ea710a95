//! Serves a directory over HTTP/1.1.
//!
//! - `resolve`: a path of a request to an open file, and never one outside of the directory;
//! - `conditions`: ranges and validators (RFC 9110 13 and 14);
//! - `body`: files in pieces, with bounded memory;
//! - `listing`: a directory as a page;
//! - `stand`: connections that stand still in the middle of a response.

mod body;
mod conditions;
mod content;
mod listing;
mod resolve;
mod stand;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::fs::File;
use std::future::{Future as _, poll_fn};
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::SystemTime;

use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt as _;

use super::{Connection, End, Left, Service, Stop, limits};
use body::{Content, FileBody};
use conditions::{Selection, Validators};
use resolve::{Found, Refusal, Root};
use stand::{Debt, Gate, Paid, Progress};

type Answer = Response<Content>;

/// The HTTP service.
#[derive(Debug)]
pub(crate) struct Http {
    root: Arc<Root>,
}

impl Http {
    /// Serves this directory.
    ///
    /// # Errors
    /// Where it cannot be opened, or is none.
    pub(crate) fn new(directory: &Path) -> io::Result<Self> {
        Ok(Self { root: Arc::new(Root::open(directory)?) })
    }
}

impl Service for Http {
    async fn serve<S: Connection>(&self, mut stream: S, left: Left, mut stop: Stop) -> io::Result<End<S>> {
        let before = match Debt::new(left)?.pay(&mut stream, &mut stop).await? {
            Paid::All(before) => before,
            Paid::Last => return Ok(End::Over),
            Paid::Stands(left) => return Ok(End::Stands(stream, left)),
        };
        let (root, progress) = (&self.root, Progress::new());
        let service = service_fn(|request| {
            let (root, progress) = (Arc::clone(root), progress.clone());
            async move {
                progress.begins(&request);
                let mut answer = answer(root, &request).await;
                answer.body_mut().follow(&progress);
                progress.answered();
                Ok::<_, Infallible>(answer)
            }
        });
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits::HEADER_TIME)
            .max_buf_size(limits::HEADER_BYTES)
            .serve_connection(TokioIo::new(Gate::new(stream, before, progress.clone())), service);
        let mut signs = stop.clone();
        let stands = async {
            signs.stands().await;
            progress.idle().await;
        };
        let result = tokio::select! {
            biased;
            () = stands => None,
            result = &mut connection => Some(result),
            () = stop.begun() => {
                // The response on its way is finished, then the connection.
                Pin::new(&mut connection).graceful_shutdown();
                Some((&mut connection).await)
            }
        };
        if let Some(result) = result {
            return result.map(|()| End::Over).map_err(io::Error::other);
        }
        progress.stand();
        // Everything that is made already goes into what is left. A request that had arrived with the last one may be read yet.
        let last = poll_fn(|context| match Pin::new(&mut connection).poll(context) {
            Poll::Pending if progress.is_answering() => Poll::Pending,
            Poll::Pending => Poll::Ready(Ok(false)),
            Poll::Ready(result) => Poll::Ready(result.map(|()| true)),
        });
        let is_over = last.await.map_err(io::Error::other)?;
        let parts = connection.into_parts();
        let (mut stream, read) = parts.io.into_inner().into_parts(&parts.read_buf);
        match progress.left(&read, is_over) {
            Some(left) => Ok(End::Stands(stream, left)),
            None => {
                stream.shutdown().await?;
                Ok(End::Over)
            }
        }
    }
}

async fn answer(root: Arc<Root>, request: &Request<Incoming>) -> Answer {
    let (method, headers) = (request.method(), request.headers());
    let path = request.uri().path();
    let mut answer = if method == Method::GET || method == Method::HEAD {
        match respond(root, path.to_owned(), method.clone(), headers.clone()).await {
            Ok(answer) => answer,
            Err(refusal) => refused(&refusal),
        }
    } else {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served here\n");
        set(&mut answer, header::ALLOW, "GET, HEAD");
        answer
    };
    tracing::info!(%method, path, status = answer.status().as_u16(), "answered");
    set(&mut answer, header::SERVER, concat!("bulkhead/", env!("CARGO_PKG_VERSION")));
    // To HEAD, all of the header and nothing of the content (RFC 9110 9.3.2).
    if method == Method::HEAD {
        answer.body_mut().omit();
    }
    answer
}

async fn respond(
    root: Arc<Root>,
    path: String,
    method: Method,
    headers: HeaderMap,
) -> Result<Answer, Refusal> {
    // File systems block.
    let work = move || {
        let names = resolve::names(&path)?;
        match root.find(&names)? {
            Found::File(file) => send_file(file, &names, &method, &headers),
            Found::Directory(_) if !path.ends_with('/') => Ok(moved(&names)),
            Found::Directory(directory) => {
                let mut index = names.clone();
                index.push(b"index.html".to_vec());
                match root.find(&index) {
                    Ok(Found::File(file)) => send_file(file, &index, &method, &headers),
                    _ => {
                        let page = listing::page(&directory, &names).map_err(Refusal::from)?;
                        Ok(content(StatusCode::OK, "text/html; charset=utf-8", page))
                    }
                }
            }
        }
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Refusal::from(io::Error::other(error))))
}

/// A file: whole, in part, or not at all because the client has it.
fn send_file(file: File, names: &[Vec<u8>], method: &Method, headers: &HeaderMap) -> Result<Answer, Refusal> {
    let about = file.metadata()?;
    let size = about.len();
    let validators = Validators::of(&about);
    if validators.is_known(headers) {
        let mut answer = Response::new(Content::empty());
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        validators.put(answer.headers_mut());
        return Ok(answer);
    }
    // Ranges mean something for GET alone (RFC 9110 14.2).
    let selection = match *method {
        Method::GET if validators.allow_range(headers) => Selection::of(headers.get(header::RANGE), size),
        _ => Selection::Whole,
    };
    let (status, first, length) = match selection {
        Selection::Whole => (StatusCode::OK, 0, size),
        Selection::Part { first, length } => (StatusCode::PARTIAL_CONTENT, first, length),
        Selection::None => {
            let mut answer = text(StatusCode::RANGE_NOT_SATISFIABLE, "the file is shorter than that\n");
            set_owned(&mut answer, header::CONTENT_RANGE, format!("bytes */{size}"));
            return Ok(answer);
        }
    };
    let mut answer = Response::new(Content::File(FileBody::new(file, first, length)));
    *answer.status_mut() = status;
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {first}-{}/{size}", first + length.saturating_sub(1));
        set_owned(&mut answer, header::CONTENT_RANGE, range);
    }
    answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    set(&mut answer, header::ACCEPT_RANGES, "bytes");
    set(&mut answer, header::CONTENT_TYPE, content::kind(names.last().map_or(b"", Vec::as_slice)));
    validators.put(answer.headers_mut());
    Ok(answer)
}

/// A directory's name ends with a slash, so that names within it are found. Written anew from the decoded names: `//host`
/// would lead elsewhere.
fn moved(names: &[Vec<u8>]) -> Answer {
    let mut answer = text(StatusCode::MOVED_PERMANENTLY, "a directory\n");
    set_owned(&mut answer, header::LOCATION, listing::address(names));
    answer
}

fn refused(refusal: &Refusal) -> Answer {
    match refusal {
        Refusal::Malformed => text(StatusCode::BAD_REQUEST, "no path of a file\n"),
        Refusal::Forbidden => text(StatusCode::FORBIDDEN, "not served\n"),
        Refusal::Missing => text(StatusCode::NOT_FOUND, "no such file\n"),
        Refusal::Busy => {
            let mut answer = text(StatusCode::SERVICE_UNAVAILABLE, "too busy\n");
            set(&mut answer, header::RETRY_AFTER, "1");
            answer
        }
        Refusal::System(error) => {
            tracing::warn!(%error, "a file cannot be served");
            text(StatusCode::INTERNAL_SERVER_ERROR, "the file cannot be read\n")
        }
    }
}

fn text(status: StatusCode, line: &'static str) -> Answer {
    content(status, "text/plain; charset=utf-8", line.to_owned())
}

fn content(status: StatusCode, kind: &'static str, page: String) -> Answer {
    let length = HeaderValue::from(page.len());
    let mut answer = Response::new(Content::Page(page.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_LENGTH, length);
    set(&mut answer, header::CONTENT_TYPE, kind);
    answer
}

fn set(answer: &mut Answer, name: HeaderName, value: &'static str) {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
}

/// A value that we have written ourselves, of visible ASCII; any other is left out.
fn set_owned(answer: &mut Answer, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        answer.headers_mut().insert(name, value);
    }
}

/// A time as HTTP writes it (RFC 9110 5.6.7).
fn date(time: SystemTime) -> String {
    httpdate::fmt_http_date(time)
}
