//! What the client's errors mean to whoever asked for a file.

use hf_hub::HFError;

use super::Client;
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

    pub(super) fn explain(&self, file: &str, error: HFError) -> HubError {
        let repo = self.model.repo.clone();
        match error {
            HFError::AuthRequired { .. } => HubError::Unauthorized { repo },
            HFError::Forbidden { .. } => HubError::Forbidden { repo },
            HFError::RepoNotFound { .. }
            | HFError::RevisionNotFound { .. }
            | HFError::EntryNotFound { .. } => self.not_found(file),
            HFError::RateLimited { retry_after, .. } => {
                HubError::RateLimited { retry_after_s: retry_after.map(|wait| wait.as_secs()) }
            }
            HFError::Request { .. } => {
                HubError::Unreachable { endpoint: self.endpoint.clone(), reason: chain(&error) }
            }
            other => self.other(file, chain(&other)),
        }
    }
}

/// Whether it is worth asking again.
pub(super) fn passing(error: &HFError) -> bool {
    match error {
        HFError::Request { .. } | HFError::Xet { .. } => true,
        HFError::Http { context } => context.status.is_server_error(),
        _ => false,
    }
}

/// An error with everything behind it: reqwest's own text stops at "error decoding response body".
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}
