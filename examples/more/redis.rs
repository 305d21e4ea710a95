//! The redis crate over the streams, unchanged: a client that knows nothing of the stack below, pipelining as always.
//! The server answers PING, SET and GET in some lines of its own; a real one would do as well.

use bulkhead::net::{TcpStream, pair};
use bulkhead_more_examples::builder;
use redis::aio::MultiplexedConnection;
use std::collections::HashMap;
use std::error::Error;
use std::io;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

/// Bytes of one word of a command, at most.
const WORD: usize = 1 << 20;

/// A number behind a sign, as in `*3` or `$5`; nothing at the end of the stream.
async fn number(
    reader: &mut (impl tokio::io::AsyncBufRead + Unpin),
    sign: char,
) -> io::Result<Option<usize>> {
    let mut line = String::new();
    if reader.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let number = line.strip_prefix(sign).and_then(|rest| rest.trim_end().parse().ok());
    number.filter(|number| *number <= WORD).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Answers commands until the peer ends the stream.
async fn serve(stream: TcpStream) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut values: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    while let Some(count) = number(&mut reader, '*').await? {
        let mut words = Vec::new();
        for _ in 0..count {
            let length = number(&mut reader, '$').await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            // The word and the end of its line.
            let mut word = vec![0; length + 2];
            reader.read_exact(&mut word).await?;
            word.truncate(length);
            words.push(word);
        }
        let answer = match words.as_slice() {
            [ping] if ping.eq_ignore_ascii_case(b"PING") => b"+PONG\r\n".to_vec(),
            [get, key] if get.eq_ignore_ascii_case(b"GET") => match values.get(key) {
                Some(value) => bulk(value),
                None => b"$-1\r\n".to_vec(),
            },
            [set, key, value] if set.eq_ignore_ascii_case(b"SET") => {
                values.insert(key.clone(), value.clone());
                b"+OK\r\n".to_vec()
            }
            // What else a client says at first; it lives without.
            _ => b"-ERR unknown command\r\n".to_vec(),
        };
        writer.write_all(&answer).await?;
    }
    writer.shutdown().await
}

fn bulk(value: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (left, right) = pair(1500)?;
    let server = builder(left).address([10, 0, 0, 1].into(), 24).spawn()?;
    let client = builder(right).address([10, 0, 0, 2].into(), 24).spawn()?;
    let listener = server.listen(([10, 0, 0, 1], 6379).into())?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });

    let stream = client.connect(([10, 0, 0, 1], 6379).into()).await?;
    // `new_with_config` gives a driver that borrows nothing.
    let (mut connection, driver) =
        MultiplexedConnection::new_with_config(&Default::default(), stream, Default::default()).await?;
    tokio::spawn(driver);
    let value = vec![7_u8; 100_000];
    let mut pipeline = redis::pipe();
    for key in 0..20 {
        pipeline.cmd("SET").arg(key).arg(&value).ignore();
    }
    pipeline.cmd("GET").arg(19);
    let (got,): (Vec<u8>,) = pipeline.query_async(&mut connection).await?;
    assert!(got == value);
    let nothing: Option<Vec<u8>> = redis::cmd("GET").arg("nobody").query_async(&mut connection).await?;
    println!("{} bytes came back, and {nothing:?}", got.len());
    assert!(nothing.is_none());
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn Error>> {
    main()
}
