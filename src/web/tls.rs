//! The network listener's certificate: the owner's files, or one that is made at the first start.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::vocab::Digest;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Certificate {
    /// Chain and key, PEM.
    Files { chain: PathBuf, key: PathBuf },
    /// Made once and kept in a folder; made anew when it is to be valid for other names.
    Own { folder: PathBuf, names: Vec<String> },
}

/// TLS 1.2 and 1.3 with what rustls thinks well of; HTTP/1.1.
pub fn acceptor(certificate: &Certificate) -> anyhow::Result<TlsAcceptor> {
    let (chain, key) = match certificate {
        Certificate::Files { chain, key } => (chain.clone(), key.clone()),
        Certificate::Own { folder, names } => own(folder, names)?,
    };
    let shown = chain.display();
    let certificates = CertificateDer::pem_file_iter(&chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("reading the certificate {shown}"))?;
    let first = certificates
        .first()
        .with_context(|| format!("{shown} has no certificate"))?;
    tracing::info!(certificate = %shown, sha256 = %Digest::of(first), "the listener's certificate");
    let key = PrivateKeyDer::from_pem_file(&key)
        .with_context(|| format!("reading the private key {}", key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .with_context(|| format!("the certificate {shown} and its key do not fit together"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// Where a browser gets to a listener, `https://…/`. One that listens on all addresses is called by the
/// first of the `configured` names, else by the host's own.
pub fn reached_at(listens_at: SocketAddr, configured: &[String]) -> String {
    let port = listens_at.port();
    if !listens_at.ip().is_unspecified() {
        return format!("https://{listens_at}/");
    }
    let name = configured.first().cloned().or_else(host_name);
    let name = name.unwrap_or_else(|| "localhost".into());
    match name.parse::<IpAddr>() {
        Ok(ip) => format!("https://{}/", SocketAddr::new(ip, port)),
        Err(_) => format!("https://{name}:{port}/"),
    }
}

/// Names of this host, under which a certificate of our own is valid in any case.
pub fn names(listens_at: IpAddr, configured: &[String]) -> Vec<String> {
    let mut names = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    names.extend(host_name());
    if !listens_at.is_unspecified() {
        names.push(listens_at.to_string());
    }
    names.extend_from_slice(configured);
    names.sort();
    names.dedup();
    names
}

/// Paths of certificate and key.
fn own(folder: &Path, names: &[String]) -> anyhow::Result<(PathBuf, PathBuf)> {
    let shown = folder.display();
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)))
        .with_context(|| format!("making the folder {shown}"))?;
    let (chain, key) = (
        folder.join("self-signed.pem"),
        folder.join("self-signed.key"),
    );
    let of_names = folder.join("self-signed.names");
    let wanted = names.join("\n");
    let is_there = chain.exists()
        && key.exists()
        && std::fs::read_to_string(&of_names).is_ok_and(|text| text == wanted);
    if !is_there {
        let made = rcgen::generate_simple_self_signed(names.to_vec())
            .with_context(|| format!("making a certificate for {}", names.join(", ")))?;
        // The names last: without them, all is made anew.
        let _ = std::fs::remove_file(&of_names);
        write(&key, 0o600, &made.signing_key.serialize_pem())?;
        write(&chain, 0o644, &made.cert.pem())?;
        write(&of_names, 0o644, &wanted)?;
        tracing::info!(certificate = %chain.display(), names = %names.join(" "), "made a certificate; give clients this file to trust, or set api.certificate and api.key");
    }
    Ok((chain, key))
}

fn write(path: &Path, mode: u32, text: &str) -> anyhow::Result<()> {
    let _ = std::fs::remove_file(path);
    std::fs::File::options()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_once_for_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let of = |names: &[&str]| Certificate::Own {
            folder: folder.path().join("tls"),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        let read = || std::fs::read(folder.path().join("tls/self-signed.pem")).unwrap();
        acceptor(&of(&["localhost", "127.0.0.1"])).unwrap();
        let first = read();
        acceptor(&of(&["localhost", "127.0.0.1"])).unwrap();
        assert_eq!(read(), first);
        acceptor(&of(&["localhost", "green.example.com"])).unwrap();
        assert_ne!(read(), first);
        let key = folder.path().join("tls/self-signed.key");
        let mode = std::fs::metadata(key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_browser_is_sent_where_it_can_go() {
        let reached = |listens_at: &str, names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            reached_at(listens_at.parse().unwrap(), &names)
        };
        let of = "green.example.com";
        assert_eq!(reached("192.0.2.7:8443", &[of]), "https://192.0.2.7:8443/");
        assert_eq!(
            reached("0.0.0.0:8443", &[of]),
            "https://green.example.com:8443/"
        );
        assert_eq!(
            reached("[::]:8443", &["2001:db8::7"]),
            "https://[2001:db8::7]:8443/"
        );
        let own = reached("0.0.0.0:8443", &[]);
        assert!(!own.contains("0.0.0.0") && own.ends_with(":8443/"), "{own}");
    }

    #[test]
    fn files_that_cannot_work_are_named() {
        let files = Certificate::Files {
            chain: "/nowhere/chain.pem".into(),
            key: "/nowhere/key.pem".into(),
        };
        let error = format!("{:#}", acceptor(&files).err().unwrap());
        assert!(error.contains("/nowhere/chain.pem"), "{error}");
    }
}
