//! What faults mean to whoever asked for a file.

use warpmark_record::Bytes;

use super::Client;
use super::http::Fault;
use crate::hub::HubError;

impl Client<'_> {
    pub(super) fn not_found(&self, file: &str) -> HubError {
        HubError::NotFound {
            repo: self.model.repo.clone(),
            revision: self.revision.to_owned(),
            file: file.to_owned(),
        }
    }

    pub(super) fn other(&self, file: &str, reason: String) -> HubError {
        HubError::Other { repo: self.model.repo.clone(), file: file.to_owned(), reason }
    }

    /// The error of a fault while `file` was asked for, of which so many bytes of so many are there.
    pub(super) fn explain(
        &self,
        file: &str,
        fault: Fault,
        (done, total): (Bytes, Bytes),
    ) -> HubError {
        let (repo, file_name) = (self.model.repo.clone(), file.to_owned());
        match fault {
            Fault::Status { code, reason, message, retry_after_s } => {
                let reason = reason.as_deref();
                match (code, reason) {
                    (401 | 403, Some("GatedRepo")) => HubError::Gated { repo, code },
                    (401, _) => HubError::Unauthorized { repo, token: self.token.clone() },
                    (403, _) => HubError::Forbidden { repo },
                    (404, _) => self.not_found(file),
                    (416, _) => self.other(
                        file,
                        "the hub has fewer bytes of it than it lists (HTTP 416); remove the .incomplete \
                         file of it in the hub's cache, and try without a mirror (HF_ENDPOINT)"
                            .to_owned(),
                    ),
                    (429, _) => HubError::RateLimited { retry_after_s },
                    _ => {
                        let said = message.map_or(String::new(), |said| format!(", {said:?}"));
                        self.other(file, format!("the hub answered HTTP {code}{said}; try again later"))
                    }
                }
            }
            Fault::OutOfTime => HubError::OutOfTime { repo, file: file_name, done, total },
            Fault::Connection(reason) | Fault::Silence(reason) if total.get() > 0.0 => {
                HubError::Broken {
                    repo,
                    file: file_name,
                    done: done.get() as u64,
                    total: total.get() as u64,
                    reason,
                }
            }
            Fault::Connection(reason) | Fault::Silence(reason) => {
                HubError::Unreachable { endpoint: self.http.endpoint().to_owned(), reason }
            }
            Fault::Answer(reason) => self.other(file, reason),
        }
    }
}

impl Fault {
    /// Whether it is worth asking again.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Connection(_) | Self::Silence(_) => true,
            Self::Status { code, .. } => *code >= 500 || *code == 408,
            Self::OutOfTime | Self::Answer(_) => false,
        }
    }

    /// For how many failures it counts: silence has cost its time already.
    pub(super) fn weight(&self) -> usize {
        if matches!(self, Self::Silence(_)) { 2 } else { 1 }
    }
}
