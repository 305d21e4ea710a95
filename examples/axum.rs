//! axum, unchanged: its `Listener` trait over ours.

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use bulkhead::net::{TcpListener, TcpStream, pair};
use bulkhead_examples::builder;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

struct Sandboxed(TcpListener);

impl axum::serve::Listener for Sandboxed {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        match self.0.accept().await {
            Ok(accepted) => accepted,
            // The stack has ended; axum would ask again for ever.
            Err(_) => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.0.local_addr())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (left, right) = pair(1500)?;
    let server = builder(left).address([10, 0, 0, 1].into(), 24).spawn()?;
    let client = builder(right).address([10, 0, 0, 2].into(), 24).spawn()?;

    let greet = get(|Path(name): Path<String>| async move { format!("hello, {name}") });
    let router = Router::new().route("/{name}", greet);
    let listener = server.listen(([10, 0, 0, 1], 80).into())?;
    tokio::spawn(axum::serve(Sandboxed(listener), router).into_future());

    let mut stream = client.connect(([10, 0, 0, 1], 80).into()).await?;
    stream.write_all(b"GET /axum HTTP/1.1\r\nhost: 10.0.0.1\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    println!("{answer}");
    assert!(answer.ends_with("hello, axum"));
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn Error>> {
    main()
}
