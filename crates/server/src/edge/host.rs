//! Host: whether a request means this server. Without a key this is what stops a web page that
//! lets its own name point here: a browser says the name it asked for.

use std::net::{IpAddr, SocketAddr};

use axum::extract::Request;
use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::http::{StatusCode, Version};

use super::short;
use crate::fault::Fault;

/// The address that a connection came to; none where it came through the file system.
#[derive(Clone, Copy, Debug)]
pub struct Local(pub Option<SocketAddr>);

/// Refuses a request that does not say whom it means as HTTP has it.
pub fn check_form(request: &Request) -> Result<(), Fault> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let valid = match (hosts.next(), hosts.next()) {
        (None, _) => request.version() < Version::HTTP_11,
        (Some(host), None) => host.to_str().is_ok_and(|host| authority(host).is_some()),
        (Some(_), Some(_)) => false,
    };
    if valid { Ok(()) } else { Err(Fault::request("accepted is one valid `Host` header")) }
}

/// Refuses names that are not this machine's.
pub fn check_place(request: &Request) -> Result<(), Fault> {
    let Some(Local(Some(local))) = request.extensions().get() else { return Ok(()) };
    let header = request.headers().get(HOST).and_then(|host| authority(host.to_str().ok()?));
    for authority in header.iter().chain(request.uri().authority()) {
        if !is_here(authority.host(), local.ip()) {
            let message = format!(
                "`{}` is not a name of this machine: without a key only this machine may ask",
                short(authority.host())
            );
            return Err(Fault::new(StatusCode::FORBIDDEN, message).code("host_not_allowed"));
        }
    }
    Ok(())
}

fn authority(text: &str) -> Option<Authority> {
    text.parse().ok().filter(|authority: &Authority| !authority.as_str().contains('@'))
}

fn is_here(host: &str, local: IpAddr) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
    match bare.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback() || ip.to_canonical() == local.to_canonical(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine() {
        let local = "192.168.1.5".parse().unwrap();
        for (host, here) in [
            ("localhost", true),
            ("LOCALHOST.", true),
            ("a.localhost", true),
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("[::1]", true),
            ("192.168.1.5", true),
            ("[::ffff:192.168.1.5]", true),
            ("192.168.1.6", false),
            ("localhost.evil.example", false),
            ("evillocalhost", false),
            ("127.0.0.1.evil.example", false),
            ("0x7f000001", false),
        ] {
            assert_eq!(is_here(host, local), here, "{host}");
        }
    }
}
