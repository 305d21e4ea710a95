//! Programs that tests start: whether they are there, until when they run, how they are configured.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use bulkhead_namespace::Namespace;

/// Where a program is, or a line that says that it is not there.
pub(crate) fn have(programs: &[&str]) -> bool {
    let folders = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/bin", "/sbin"];
    let missing: Vec<&&str> = programs
        .iter()
        .filter(|name| !folders.iter().any(|folder| Path::new(folder).join(name).exists()))
        .collect();
    if !missing.is_empty() {
        eprintln!("skipped: {missing:?} not installed here; `cargo xtask test` installs them");
    }
    missing.is_empty()
}

/// A program that runs until the test is over.
pub(crate) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a program inside and waits until it listens there.
pub(crate) fn start(space: &Namespace, words: &[&str], listens_at: &str) -> Running {
    let mut command = space.command(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let running = Running(command.spawn().unwrap());
    let begun = Instant::now();
    let at = listens_at.parse().unwrap();
    while space.inside(|| std::net::TcpStream::connect_timeout(&at, Duration::from_secs(1)).is_err()).unwrap()
    {
        assert!(begun.elapsed() < Duration::from_secs(60), "{words:?} does not listen at {listens_at}");
        std::thread::sleep(Duration::from_millis(20));
    }
    running
}

/// nginx inside, serving the namespace's folder at these ends, with TLS at the second one.
pub(crate) fn nginx(space: &Namespace, plain: &str, tls: Option<&str>) -> Running {
    let folder = space.folder().display().to_string();
    let secure = tls.map_or(String::new(), |at| {
        certificate(space);
        format!("server {{ listen {at} ssl; ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem; root {folder}; }}")
    });
    let config = format!(
        "daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2;\n\
         fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;\n\
         server {{ listen {plain}; root {folder}; }} {secure} }}\n"
    );
    let path = space.folder().join("nginx.conf");
    std::fs::write(&path, config).unwrap();
    start(space, &["nginx", "-c", path.to_str().unwrap()], plain)
}

fn certificate(space: &Namespace) {
    let at = |name: &str| -> PathBuf { space.folder().join(name) };
    let (key, cert) = (at("key.pem"), at("cert.pem"));
    let words = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=behind.test",
        "-addext",
        "subjectAltName=DNS:behind.test",
        "-keyout",
        key.to_str().unwrap(),
        "-out",
        cert.to_str().unwrap(),
    ];
    space.run(&words).unwrap_or_else(|error| panic!("{error}"));
}
