//! What the hub lists of files: their sizes and digests.

use std::thread;

use serde::Deserialize;
use warpmark_record::Bytes;

use super::http::Ask;
use super::{Client, RETRIES};
use crate::Progress;
use crate::hub::HubError;

/// The file that a repository of an adapter has.
const ADAPTER: &str = "adapter_config.json";

/// A file as the hub lists it.
pub(super) struct Listed<'a> {
    pub(super) file: &'a str,
    pub(super) size: u64,
    /// The name of its blob in the cache, where it is known before the file has been read.
    pub(super) blob: Option<String>,
    /// The digest it must have.
    pub(super) sha256: Option<String>,
}

/// The hub's own record of a path.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    oid: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Large>,
}

/// Of a file that git does not hold itself.
#[derive(Deserialize)]
struct Large {
    /// The SHA-256; some servers call it `sha256`.
    oid: Option<String>,
    sha256: Option<String>,
    size: Option<u64>,
}

impl Client<'_> {
    /// What the hub says about these files, in one request.
    pub(super) fn list<'f>(
        &self,
        files: &[&'f str],
        progress: &dyn Progress,
    ) -> Result<Vec<Listed<'f>>, HubError> {
        let entries = self.entries(files, progress)?;
        let mut listed = Vec::with_capacity(files.len());
        for file in files {
            let entry = entries.iter().find(|entry| entry.kind == "file" && entry.path == *file);
            let Some(entry) = entry else {
                let others = self.entries(&[ADAPTER], progress).unwrap_or_default();
                return Err(if others.iter().any(|entry| entry.path == ADAPTER) {
                    HubError::Adapter { repo: self.model.repo.clone(), file: (*file).to_owned() }
                } else {
                    self.not_found(file)
                });
            };
            listed.push(self.listed(file, entry)?);
        }
        Ok(listed)
    }

    fn listed<'f>(&self, file: &'f str, entry: &Entry) -> Result<Listed<'f>, HubError> {
        let at = self.model.files.iter().position(|name| name == file);
        let pinned = at.and_then(|at| self.model.sha256.get(at)).cloned();
        let Some(large) = &entry.lfs else {
            // A small file's blob is called by its git object.
            let name = self.digest(file, &entry.oid, &[40, 64])?;
            return Ok(Listed { file, size: entry.size, blob: Some(name), sha256: pinned });
        };
        let said = large.sha256.as_deref().or(large.oid.as_deref().filter(|oid| oid.len() == 64));
        let said = said.map(|sha256| self.digest(file, sha256, &[64])).transpose()?;
        let sha256 = pinned.or(said);
        let size = large.size.unwrap_or(entry.size).max(entry.size);
        Ok(Listed { file, size, blob: sha256.clone(), sha256 })
    }

    /// A digest from outside, which becomes a file's name.
    fn digest(&self, file: &str, text: &str, lengths: &[usize]) -> Result<String, HubError> {
        if lengths.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(text.to_ascii_lowercase());
        }
        let reason = if text.is_empty() {
            "the hub lists it with an empty digest; try again, or without a mirror (HF_ENDPOINT)"
                .to_owned()
        } else {
            let shown: String = text.chars().take(80).collect();
            format!(
                "the hub lists it with the digest {shown:?}, which is malformed; try without a mirror \
                 (HF_ENDPOINT)"
            )
        };
        Err(self.other(file, reason))
    }

    fn entries(&self, files: &[&str], progress: &dyn Progress) -> Result<Vec<Entry>, HubError> {
        let file = files.first().copied().unwrap_or("anything");
        let path =
            format!("/api/models/{}/paths-info/{}", self.repo.url(), self.repo.url_revision());
        let body = serde_json::json!({ "paths": files, "expand": false }).to_string();
        let mut failures = 0;
        let bytes = loop {
            let left = progress.time_left();
            let ask = Ask { path: &path, range: None, body: Some(&body), left };
            let fault = match self.http.answer(&ask) {
                Ok(bytes) => break bytes,
                Err(fault) => fault,
            };
            failures += fault.weight();
            if !fault.may_pass() || failures > self.options.retries.unwrap_or(RETRIES) {
                return Err(self.explain(file, fault, (Bytes(0.0), Bytes(0.0))));
            }
            thread::sleep(super::transfer::pause(failures, progress.time_left()));
        };
        serde_json::from_slice(&bytes)
            .map_err(|error| self.other(file, format!("the hub's list is malformed: {error}")))
    }
}
