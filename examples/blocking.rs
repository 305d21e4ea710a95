//! Without a runtime of one's own: threads, std's `Read` and `Write`, timeouts.

use bulkhead::net::blocking::{TcpListener, TcpStream};
use bulkhead::net::pair;
use bulkhead_examples::builder;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::thread;
use std::time::Duration;

fn main() -> io::Result<()> {
    let (left, right) = pair(1500)?;
    let server = builder(left).address([10, 0, 0, 1].into(), 24).spawn()?;
    let client = builder(right).address([10, 0, 0, 2].into(), 24).spawn()?;

    let listener = TcpListener::bind(&server, ([10, 0, 0, 1], 7).into())?;
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || io::copy(&mut &stream, &mut &stream));
        }
    });
    let mut stream = TcpStream::connect_timeout(&client, ([10, 0, 0, 1], 7).into(), Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)));
    writeln!(stream, "a line")?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    print!("echoed: {line}");
    drop(stream);
    println!("{}", client.shutdown_blocking(Duration::from_secs(5)));
    Ok(())
}

#[test]
fn runs() -> io::Result<()> {
    main()
}
