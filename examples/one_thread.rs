//! Application and stack on one thread: no wake-up between them. A ping-pong says what a round trip takes.

use bulkhead::net::pair;
use bulkhead_examples::builder;
use std::io;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const ROUNDS: u32 = 2000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let (left, right) = pair(1500)?;
    let (server, server_driver) = builder(left).address([10, 0, 0, 1].into(), 24).build()?;
    let (client, client_driver) = builder(right).address([10, 0, 0, 2].into(), 24).build()?;
    // Tasks of this very thread.
    tokio::spawn(server_driver.run());
    tokio::spawn(client_driver.run());

    let listener = server.listen(([10, 0, 0, 1], 7).into())?;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        loop {
            let byte = stream.read_u8().await?;
            stream.write_u8(byte).await?;
        }
        #[expect(unreachable_code, reason = "says what the task's errors are")]
        io::Result::Ok(())
    });
    let mut stream = client.connect(([10, 0, 0, 1], 7).into()).await?;
    let begin = Instant::now();
    for _ in 0..ROUNDS {
        stream.write_u8(1).await?;
        stream.read_u8().await?;
    }
    println!("{:?} a round trip", begin.elapsed() / ROUNDS);
    drop(stream);
    println!("{}", client.shutdown(Duration::from_secs(5)).await);
    Ok(())
}

#[test]
fn runs() -> io::Result<()> {
    main()
}
