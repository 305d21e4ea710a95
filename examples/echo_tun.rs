//! An echo server that the kernel of this machine can reach, over a TUN device. Needs root, or a namespace of one's own:
//! `unshare --user --map-root-user --net`.

use bulkhead::device::{OffloadTun, TunOptions};
use bulkhead::net::Net;
use bulkhead_examples::builder;
use std::error::Error;
use std::time::Duration;

/// The device `bulkhead0` with the kernel at 10.77.0.1, and our stack behind it at 10.77.0.2.
fn stack() -> Result<Net, Box<dyn Error>> {
    let device = OffloadTun::open(&TunOptions {
        name: "bulkhead0".into(),
        addresses: vec![([10, 77, 0, 1].into(), 24)],
        up: true,
        ..TunOptions::default()
    })?;
    Ok(builder(device).address([10, 77, 0, 2].into(), 24).spawn()?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let net = stack()?;
    let listener = net.listen(([10, 77, 0, 2], 7).into())?;
    println!("try: nc 10.77.0.2 7    (Ctrl-C ends)");
    let serve = async {
        while let Ok((mut stream, peer)) = listener.accept().await {
            println!("{peer}");
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    };
    tokio::select! {
        () = serve => {}
        result = tokio::signal::ctrl_c() => result?,
    }
    println!("{}", net.shutdown(Duration::from_secs(5)).await);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// The kernel as the peer, in a namespace of the test's own. Only for root; others skip it.
    #[test]
    fn the_kernel_is_echoed() {
        match bulkhead_namespace::Namespace::new() {
            Ok(namespace) => namespace.inside(|| echoed().unwrap()).unwrap(),
            Err(error) => eprintln!("skipped: {error}"),
        }
    }

    #[tokio::main(flavor = "current_thread")]
    async fn echoed() -> Result<(), Box<dyn Error>> {
        let net = stack()?;
        let listener = net.listen(([10, 77, 0, 2], 7).into())?;
        let serving = tokio::spawn(async move {
            let (stream, _) = listener.accept().await?;
            let (mut read, mut write) = stream.into_split();
            tokio::io::copy(&mut read, &mut write).await
        });
        let sent = vec![0x5a; 1 << 20];
        let (mut read, mut write) = tokio::net::TcpStream::connect("10.77.0.2:7").await?.into_split();
        let (bytes, expected) = (sent.clone(), sent.len());
        let writing = tokio::spawn(async move {
            write.write_all(&bytes).await?;
            write.shutdown().await
        });
        let mut got = Vec::new();
        read.read_to_end(&mut got).await?;
        writing.await??;
        assert!(got == sent);
        assert_eq!(serving.await??, expected as u64);
        let summary = net.shutdown(Duration::from_secs(5)).await;
        assert_eq!((summary.connections, summary.bytes_in), (1, expected as u64), "{summary}");
        Ok(())
    }
}
