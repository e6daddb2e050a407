//! PROXY protocol header at the beginning of a connection, by which a proxy for TCP names the client.
//!
//! Reads exactly the header and no byte of the first request.

use ppp::{v1, v2};
use std::{io, net::SocketAddr};
use tokio::{io::AsyncReadExt, net::TcpStream};

/// Bytes after which the version is known. Headers of both versions are longer.
const SIGNATURE_LENGTH: usize = v2::PROTOCOL_PREFIX.len();
/// Length of a binary header without addresses.
const FIXED_LENGTH: usize = SIGNATURE_LENGTH + 4;
/// Longest accepted binary header, in bytes. Addresses need 232; the rest is for names and certificates of the client.
const MAX_BINARY: usize = 4 * 1024;
/// Longest text header by the specification, in bytes.
const MAX_TEXT: usize = 107;

/// Reads the header. `None`: the proxy speaks for itself, such as in a health check, or names no internet address.
pub(super) async fn read_header(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut header = vec![0; SIGNATURE_LENGTH];
    stream.read_exact(&mut header).await?;
    if header == v2::PROTOCOL_PREFIX {
        read_rest_of_binary(stream, &mut header).await?;
        binary_source(&header)
    } else if header.starts_with(b"PROXY ") {
        read_rest_of_line(stream, &mut header).await?;
        text_source(&header)
    } else {
        Err(invalid("the connection does not begin with a PROXY protocol header"))
    }
}

async fn read_rest_of_binary(stream: &mut TcpStream, header: &mut Vec<u8>) -> io::Result<()> {
    header.resize(FIXED_LENGTH, 0);
    stream.read_exact(&mut header[SIGNATURE_LENGTH..]).await?;
    let length = FIXED_LENGTH + usize::from(u16::from_be_bytes([header[FIXED_LENGTH - 2], header[FIXED_LENGTH - 1]]));
    if length > MAX_BINARY {
        return Err(invalid("the PROXY protocol header is too long"));
    }
    header.resize(length, 0);
    stream.read_exact(&mut header[FIXED_LENGTH..]).await?;
    Ok(())
}

/// Reads up to the line end. Peeks first, because the first request may have arrived with it.
async fn read_rest_of_line(stream: &mut TcpStream, header: &mut Vec<u8>) -> io::Result<()> {
    while !header.ends_with(b"\n") {
        let before = header.len();
        let mut space = [0; MAX_TEXT];
        let seen = stream.peek(&mut space[before.min(MAX_TEXT)..]).await?;
        if seen == 0 {
            return Err(invalid("the PROXY protocol header has no end"));
        }
        let new = &space[before..before + seen];
        let taken = new.iter().position(|byte| *byte == b'\n').map_or(seen, |end| end + 1);
        header.resize(before + taken, 0);
        stream.read_exact(&mut header[before..]).await?;
    }
    Ok(())
}

fn text_source(header: &[u8]) -> io::Result<Option<SocketAddr>> {
    let header = v1::Header::try_from(header).map_err(invalid)?;
    Ok(match header.addresses {
        v1::Addresses::Tcp4(pair) => Some((pair.source_address, pair.source_port).into()),
        v1::Addresses::Tcp6(pair) => Some((pair.source_address, pair.source_port).into()),
        v1::Addresses::Unknown => None,
    })
}

fn binary_source(header: &[u8]) -> io::Result<Option<SocketAddr>> {
    let header = v2::Header::try_from(header).map_err(invalid)?;
    if header.command == v2::Command::Local {
        return Ok(None);
    }
    Ok(match header.addresses {
        v2::Addresses::IPv4(pair) => Some((pair.source_address, pair.source_port).into()),
        v2::Addresses::IPv6(pair) => Some((pair.source_address, pair.source_port).into()),
        v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
    })
}

fn invalid(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
