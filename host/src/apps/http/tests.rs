//! The HTTP service over the kernel's own sockets.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Http;
use crate::apps::limits;
use crate::apps::tests::{Served, http_under_hand_overs, served};

/// A folder that is gone after the test.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bulkhead-http-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What came back: status, header lines in lower case, content.
struct Reply {
    status: u16,
    header: String,
    content: Vec<u8>,
}

impl Reply {
    fn value(&self, name: &str) -> Option<&str> {
        self.header.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")))
    }
}

async fn ask(served: &Served, request: &str) -> Reply {
    let mut stream = TcpStream::connect(served.at).await.unwrap();
    let request = format!("{}\r\nhost: here\r\nconnection: close\r\n\r\n", request.replace('\n', "\r\n"));
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    let end = all.windows(4).position(|part| part == b"\r\n\r\n").expect("a header");
    let header = String::from_utf8(all[..end].to_vec()).unwrap().to_lowercase();
    let status = header.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, header, content: all[end + 4..].to_vec() }
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| ((at / 5) ^ (at / 1000)) as u8).collect()
}

async fn site(name: &str) -> (Folder, Served) {
    let folder = Folder::new(name);
    let root = folder.path().join("root");
    std::fs::create_dir_all(root.join("sub/more")).unwrap();
    std::fs::create_dir_all(root.join("home")).unwrap();
    std::fs::write(root.join("home/index.html"), "<p>home</p>").unwrap();
    std::fs::write(root.join("sub/a <b> & c?.txt"), "odd").unwrap();
    std::fs::write(root.join("big"), bytes(3 * limits::FILE_PIECE + 77)).unwrap();
    std::fs::write(root.join("empty.css"), "").unwrap();
    std::fs::write(folder.path().join("secret"), "secret").unwrap();
    symlink("../secret", root.join("out")).unwrap();
    symlink(folder.path(), root.join("outside")).unwrap();
    symlink("/proc/self/environ", root.join("magic")).unwrap();
    symlink("home/index.html", root.join("within")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe"), 0o600.into()).unwrap();
    let served = served(Http::new(&root).unwrap()).await;
    (folder, served)
}

#[tokio::test]
async fn files_come_whole_and_in_part() {
    let (_folder, served) = site("files").await;
    let whole = bytes(3 * limits::FILE_PIECE + 77);
    let reply = ask(&served, "GET /big HTTP/1.1").await;
    assert_eq!((reply.status, reply.value("content-length").unwrap()), (200, &*whole.len().to_string()));
    assert!(reply.content == whole);
    assert_eq!(reply.value("accept-ranges"), Some("bytes"));
    assert_eq!(reply.value("content-type"), Some("application/octet-stream"));

    let head = ask(&served, "HEAD /big HTTP/1.1\nrange: bytes=1-2").await;
    assert_eq!((head.status, head.content.len()), (200, 0));
    assert_eq!(head.value("content-length"), reply.value("content-length"));

    let part = ask(&served, "GET /big HTTP/1.1\nrange: bytes=1000-299999").await;
    assert_eq!(part.status, 206);
    assert!(part.content == whole[1000..300_000]);
    assert_eq!(part.value("content-range").unwrap(), format!("bytes 1000-299999/{}", whole.len()));
    let end = ask(&served, "GET /big HTTP/1.1\nrange: bytes=-5").await;
    assert!(end.status == 206 && end.content == whole[whole.len() - 5..]);
    let beyond = ask(&served, "GET /big HTTP/1.1\nrange: bytes=99999999-").await;
    assert_eq!(
        (beyond.status, beyond.value("content-range").unwrap()),
        (416, &*format!("bytes */{}", whole.len()))
    );

    let empty = ask(&served, "GET /empty.css HTTP/1.1").await;
    assert_eq!((empty.status, empty.content.len(), empty.value("content-length")), (200, 0, Some("0")));
    assert_eq!(empty.value("content-type"), Some("text/css; charset=utf-8"));
}

#[tokio::test]
async fn what_the_client_has_is_not_sent_again() {
    let (_folder, served) = site("cached").await;
    let reply = ask(&served, "GET /big HTTP/1.1\nrange: bytes=0-0").await;
    let (tag, time) = (reply.value("etag").unwrap(), reply.value("last-modified").unwrap().to_uppercase());
    let time = httpdate::fmt_http_date(httpdate::parse_http_date(&title(&time)).unwrap());
    for condition in [format!("if-none-match: W/{tag}"), format!("if-modified-since: {time}")] {
        let known = ask(&served, &format!("GET /big HTTP/1.1\n{condition}")).await;
        assert_eq!((known.status, known.content.len()), (304, 0), "{condition}");
        assert_eq!(known.value("etag"), Some(tag));
    }
    let other = ask(&served, "GET /big HTTP/1.1\nif-none-match: \"other\"\nrange: bytes=0-0").await;
    assert_eq!(other.status, 206);
    let changed = ask(&served, "GET /big HTTP/1.1\nif-range: \"other\"\nrange: bytes=0-0").await;
    assert_eq!(changed.status, 200);
    let same = ask(&served, &format!("GET /big HTTP/1.1\nif-range: {tag}\nrange: bytes=0-0")).await;
    assert_eq!(same.status, 206);
}

/// A date's words as HTTP writes them.
fn title(text: &str) -> String {
    let word = |word: &str| {
        let (first, rest) = word.split_at(1);
        if word == "GMT" { word.to_owned() } else { first.to_owned() + &rest.to_lowercase() }
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn directories_are_listed_or_have_an_index() {
    let (_folder, served) = site("listing").await;
    let root = ask(&served, "GET / HTTP/1.1").await;
    let page = String::from_utf8(root.content).unwrap();
    assert!(
        page.contains("<a href=\"./sub/\">sub/</a>") && page.contains("<a href=\"./big\">big</a>"),
        "{page}"
    );
    let sub = ask(&served, "GET /sub/ HTTP/1.1").await;
    let page = String::from_utf8(sub.content).unwrap();
    assert!(page.contains("./a%20%3Cb%3E%20%26%20c%3F.txt\">a &lt;b&gt; &amp; c?.txt<"), "{page}");
    let odd = ask(&served, "GET /sub/a%20%3Cb%3E%20%26%20c%3F.txt HTTP/1.1").await;
    assert_eq!(odd.content, b"odd");
    let home = ask(&served, "GET /home/ HTTP/1.1").await;
    assert_eq!(home.content, b"<p>home</p>");
    assert_eq!(home.value("content-type"), Some("text/html; charset=utf-8"));
    let within = ask(&served, "GET /within HTTP/1.1").await;
    assert_eq!(within.content, b"<p>home</p>");
    let moved = ask(&served, "GET //sub HTTP/1.1").await;
    assert_eq!((moved.status, moved.value("location")), (301, Some("/sub/")));
}

#[tokio::test]
async fn nothing_outside_is_served() {
    let (_folder, served) = site("outside").await;
    for (path, status) in [
        ("/../secret", 403),
        ("/sub/../../secret", 403),
        ("/%2e%2e/secret", 403),
        ("/..%2fsecret", 400),
        ("/out", 403),
        ("/outside/secret", 403),
        ("/outside/", 403),
        ("/magic", 403),
        ("/pipe", 403),
        ("/none", 404),
        ("/big/more", 404),
        ("/%00", 400),
        ("/%", 400),
    ] {
        let reply = ask(&served, &format!("GET {path} HTTP/1.1")).await;
        assert_eq!(reply.status, status, "{path}");
        assert!(!reply.content.windows(6).any(|part| part == b"secret"), "{path}");
    }
    let post = ask(&served, "POST /big HTTP/1.1\ncontent-length: 0").await;
    assert_eq!((post.status, post.value("allow")), (405, Some("get, head")));
}

#[tokio::test]
async fn a_file_that_is_cut_off_ends_the_connection() {
    let (folder, served) = site("cut").await;
    let file = folder.path().join("root/huge");
    std::fs::File::create(&file).unwrap().set_len(64 << 20).unwrap();
    let mut stream = TcpStream::connect(served.at).await.unwrap();
    stream.write_all(b"GET /huge HTTP/1.1\r\nhost: here\r\n\r\n").await.unwrap();
    let mut first = vec![0; 100_000];
    stream.read_exact(&mut first).await.unwrap();
    std::fs::File::options().write(true).open(&file).unwrap().set_len(1 << 20).unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.len() < 63 << 20, "{} bytes of what is not there", rest.len());
}

#[tokio::test]
async fn the_end_waits_for_the_response_on_its_way() {
    let (_folder, served) = site("end").await;
    let mut idle = TcpStream::connect(served.at).await.unwrap();
    let mut stream = TcpStream::connect(served.at).await.unwrap();
    stream.write_all(b"GET /big HTTP/1.1\r\nhost: here\r\n\r\n").await.unwrap();
    let mut first = vec![0; 1000];
    stream.read_exact(&mut first).await.unwrap();
    served.stopper.stop();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    let whole = bytes(3 * limits::FILE_PIECE + 77);
    assert!(rest.ends_with(&whole[whole.len() - 1000..]));
    assert_eq!(idle.read(&mut first).await.unwrap(), 0);
    drop((idle, stream));
    served.task.await.unwrap().unwrap();
    assert_eq!(served.counters.counts().accepted, 2);
}

/// The responses of a connection, one after the other, by their lengths.
fn cut(mut all: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut found = Vec::new();
    while !all.is_empty() {
        let end = all.windows(4).position(|part| part == b"\r\n\r\n").expect("a header");
        let header = String::from_utf8(all[..end].to_vec()).unwrap().to_lowercase();
        let length = header.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.unwrap().parse().unwrap();
        let status = header.split(' ').nth(1).unwrap().parse().unwrap();
        found.push((status, all[end + 4..end + 4 + length].to_vec()));
        all = &all[end + 4 + length..];
    }
    found
}

#[tokio::test]
async fn a_download_goes_on_elsewhere_and_so_do_the_requests_behind_it() {
    let (folder, mut served) = site("stand").await;
    let root = folder.path().join("root");
    let large = bytes(40 * limits::FILE_PIECE + 5);
    std::fs::write(root.join("large"), &large).unwrap();
    let ask = |what: &str, more: &str| format!("GET {what} HTTP/1.1\r\nhost: here\r\n{more}\r\n");
    // All requests at once: the later ones wait in the server.
    let requests = [
        ask("/large", ""),
        ask("/nowhere", ""),
        ask("/large", "range: bytes=1000-5000999\r\n"),
        ask("/home/", ""),
        ask("/large", "connection: close\r\n"),
    ];
    let all = http_under_hand_overs(&mut served, requests.concat().as_bytes(), &root).await;
    let found = cut(&all);
    let status: Vec<u16> = found.iter().map(|(status, _)| *status).collect();
    assert_eq!(status, [200, 404, 206, 200, 200]);
    assert!(found[0].1 == large && found[4].1 == large);
    assert!(found[2].1 == large[1000..5_001_000]);
    assert_eq!(found[3].1, b"<p>home</p>");
    assert_eq!(served.counters.counts().failed, 0);
}

#[tokio::test]
async fn half_a_request_goes_on_elsewhere() {
    let (folder, mut served) = site("half").await;
    let root = folder.path().join("root");
    let mut stream = TcpStream::connect(served.at).await.unwrap();
    for piece in ["GET /home/ind", "ex.html HTTP/1.1\r\nho", "st: here\r\nconnection: close\r\n", "\r\n"] {
        stream.write_all(piece.as_bytes()).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        served.handed_on(Http::new(&root).unwrap()).await;
    }
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    assert_eq!(cut(&all), [(200, b"<p>home</p>".to_vec())]);
}
