//! Datagrams: the UDP module beside TCP, each in a sandbox of its own. A server that tells how long each one was.

use bulkhead::device::Device;
use bulkhead::net::{Builder, pair};
use bulkhead_examples::builder;
use std::io;

/// With the feature `wasm` this is `Builder::new(device).udp()`.
fn with_udp(device: impl Device + 'static) -> Builder {
    #[cfg(feature = "wasm")]
    return builder(device).udp();
    #[cfg(not(feature = "wasm"))]
    builder(device)
        .beside(Box::new(bulkhead::placement::native::Native::new(Box::new(bulkhead_udp::Udp::new()))))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let (left, right) = pair(1500)?;
    let server = with_udp(left).address([10, 0, 0, 1].into(), 24).spawn()?;
    let client = with_udp(right).address([10, 0, 0, 2].into(), 24).spawn()?;

    let counting = server.bind_udp(([10, 0, 0, 1], 9000).into())?;
    let there = counting.local_addr();
    tokio::spawn(async move {
        let mut bytes = [0; 65_536];
        while let Ok((count, from)) = counting.recv_from(&mut bytes).await {
            counting.send_to(format!("{count} bytes").as_bytes(), from).await?;
        }
        io::Result::Ok(())
    });

    let asking = client.connect_udp(there)?;
    let mut answer = [0; 64];
    // The last one is longer than the link takes: it goes out in fragments.
    for length in [0, 100, 20_000] {
        asking.send(&vec![7; length]).await?;
        let count = asking.recv(&mut answer).await?;
        println!("{}", String::from_utf8_lossy(&answer[..count]));
        assert_eq!(answer[..count], *format!("{length} bytes").as_bytes());
    }
    Ok(())
}

#[test]
fn runs() -> io::Result<()> {
    main()
}
