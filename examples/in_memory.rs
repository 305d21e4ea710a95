//! The smallest embedding: two stacks joined in memory, a client and a server. No root, no TUN, no kernel sockets.

use bulkhead::net::pair;
use bulkhead_examples::builder;
use std::io;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let (left, right) = pair(1500)?;
    let server = builder(left).address([10, 0, 0, 1].into(), 24).spawn()?;
    let client = builder(right).address([10, 0, 0, 2].into(), 24).spawn()?;

    let listener = server.listen(([10, 0, 0, 1], 7).into())?;
    let serve = async {
        let (mut stream, peer) = listener.accept().await?;
        let (mut read, mut write) = stream.split();
        let bytes = tokio::io::copy(&mut read, &mut write).await?;
        println!("server: {bytes} bytes from {peer}");
        io::Result::Ok(())
    };
    let ask = async {
        let mut stream = client.connect(([10, 0, 0, 1], 7).into()).await?;
        stream.write_all(b"hello through two stacks").await?;
        let rtt = stream.tcp_info()?.rtt;
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        println!("client: {answer:?}, round trip {rtt:?}");
        Ok(())
    };
    tokio::try_join!(serve, ask)?;
    Ok(())
}

#[test]
fn runs() -> io::Result<()> {
    main()
}
