//! Why the hub did not give what it was asked for.

use std::path::PathBuf;

use warpmark_record::Bytes;

/// Why the hub did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The build has no client.
    #[error(
        "this build has no hub client: rebuild with --features hub, \
         or take synthetic weights or a folder"
    )]
    NoClient,
    /// The entry pins no commit.
    #[error(
        "no revision of {repo} is pinned for {model}, and nothing else than a commit is fetched: \
         copy the entry to a file of your own, add revision = \"<40 hex digits>\" from the history \
         of the repo's files, and pass the file with --models; where the repo is gated, accept its \
         terms on its page first and set HF_TOKEN to a token of that account"
    )]
    Unpinned {
        /// The model's id.
        model: String,
        /// `owner/name`.
        repo: String,
    },
    /// Not in the local cache, and the network is off.
    #[error(
        "{repo}@{revision}/{file} is not in the hub cache {} and the network is off; \
         fetch it once without --offline and HF_HUB_OFFLINE", cache.display()
    )]
    Offline {
        /// `owner/name`.
        repo: String,
        /// The commit.
        revision: String,
        /// The file in the repo.
        file: String,
        /// The cache looked into.
        cache: PathBuf,
    },
    /// The repository has terms that the account has not accepted, or nobody says which account asks.
    #[error(
        "{repo} is a gated repository (HTTP {code}): open its page on the hub, accept its terms, and set \
         HF_TOKEN to a token of that account"
    )]
    Gated {
        /// `owner/name`.
        repo: String,
        /// The status.
        code: u16,
    },
    /// No token, or not one that the hub accepts.
    #[error(
        "the hub wants to know who asks for {repo} (HTTP 401): it is gated, private or not there, or the \
         token is stale ({token}); open the repo's page on the hub, accept its terms if it has some, and \
         set HF_TOKEN to a token from that account's settings"
    )]
    Unauthorized {
        /// `owner/name`.
        repo: String,
        /// Where the token came from.
        token: String,
    },
    /// The account may not see it.
    #[error(
        "the hub does not let this account have {repo} (HTTP 403): open the repo's page on the hub, \
         accept its terms, and set HF_TOKEN to a token of that account"
    )]
    Forbidden {
        /// `owner/name`.
        repo: String,
    },
    /// A token that cannot be sent.
    #[error(
        "the token in {from} is malformed: a token is letters, digits and signs without a space; \
         copy it anew from the account's settings on the hub"
    )]
    MalformedToken {
        /// The variable or the file.
        from: String,
    },
    /// The file that a variable names as the token's.
    #[error(
        "the token cannot be read from {}: {reason}; set HF_TOKEN, or HF_TOKEN_PATH to a file that can",
        path.display()
    )]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The address of the server.
    #[error(
        "HF_ENDPOINT is invalid, {value:?}: {reason}; give an address such as https://huggingface.co, or \
         unset it"
    )]
    Endpoint {
        /// The address without a password.
        value: String,
        /// What is wrong.
        reason: String,
    },
    /// The address of the proxy, which may hold a password and is not shown.
    #[error(
        "{variable} is no proxy's address; give one such as http://proxy.example:3128, or unset it"
    )]
    Proxy {
        /// The variable.
        variable: String,
    },
    /// Nothing says where the hub's cache should be.
    #[error(
        "no folder for the hub's cache: HOME is not set; set HF_HOME to a folder that can be written"
    )]
    NoCacheFolder,
    /// No such repo, revision or file.
    #[error(
        "the hub has no {file} in {repo} at {revision}; \
         check repo, revision and files in models.toml"
    )]
    NotFound {
        /// `owner/name`.
        repo: String,
        /// The commit.
        revision: String,
        /// The file in the repo.
        file: String,
    },
    /// A repository of changes to another model's weights.
    #[error(
        "{repo} is a LoRA adapter's repository (it has adapter_config.json and no {file}): an adapter is \
         no model; merge it into its base model, or give the base model's repo"
    )]
    Adapter {
        /// `owner/name`.
        repo: String,
        /// The file in the repo.
        file: String,
    },
    /// Files larger than the model.
    #[error(
        "the hub lists {} for {what} from {repo}, where at most {} belong to {model}; nothing was fetched: \
         check repo, revision and files in models.toml", listed.binary(), most.binary()
    )]
    Large {
        /// `owner/name`.
        repo: String,
        /// The model's id.
        model: String,
        /// Which files.
        what: String,
        /// Their size, as the hub lists it.
        listed: Bytes,
        /// The largest that is believed.
        most: Bytes,
    },
    /// The time allowed is up.
    #[error(
        "the budget was used up after {} of {} of {file} from {repo}; what came is kept, and another run \
         goes on from there (`warpmark fetch` has no budget)", done.binary(), total.binary()
    )]
    OutOfTime {
        /// `owner/name`.
        repo: String,
        /// The file in the repo.
        file: String,
        /// Bytes that are kept.
        done: Bytes,
        /// Bytes of the file; 0 where not even that is known.
        total: Bytes,
    },
    /// Too many requests.
    #[error(
        "the hub is being asked too often (HTTP 429): try again {}; with HF_TOKEN set the limit is higher",
        retry_after_s.map_or("later".to_owned(), |seconds| format!("in {seconds} s"))
    )]
    RateLimited {
        /// The server's `Retry-After`, in seconds.
        retry_after_s: Option<u64>,
    },
    /// No server answered.
    #[error(
        "the hub at {endpoint} cannot be reached: {reason}; \
         check the network and HF_ENDPOINT, or take synthetic weights or a folder"
    )]
    Unreachable {
        /// The server.
        endpoint: String,
        /// What the client said.
        reason: String,
    },
    /// The connection broke, and went on breaking.
    #[error(
        "the transfer of {file} from {repo} broke after {done} of {total} bytes: {reason}; \
         run it again: it goes on where it stopped"
    )]
    Broken {
        /// `owner/name`.
        repo: String,
        /// The file in the repo.
        file: String,
        /// Bytes that are kept.
        done: u64,
        /// Bytes of the file.
        total: u64,
        /// What the client said.
        reason: String,
    },
    /// The server sent another number of bytes than asked for.
    #[error(
        "{repo} sent {found} of {file} where {expected} bytes were due: \
         a proxy or mirror in between may not support ranges; try without it (HF_ENDPOINT)"
    )]
    Size {
        /// `owner/name`.
        repo: String,
        /// The file in the repo.
        file: String,
        /// Bytes due.
        expected: u64,
        /// What came.
        found: String,
    },
    /// The file is not the one that the hub lists.
    #[error(
        "{file} from {repo} arrived damaged: its {kind} is {found} and should be {expected}; \
         it was removed: run it again"
    )]
    Checksum {
        /// `owner/name`.
        repo: String,
        /// The file in the repo.
        file: String,
        /// Which checksum.
        kind: &'static str,
        /// What the hub lists.
        expected: String,
        /// What came.
        found: String,
    },
    /// Another process fetches the same file.
    #[error(
        "another process is fetching {file} from {repo}; wait for it, or remove {} if none is",
        lock.display()
    )]
    Locked {
        /// `owner/name`.
        repo: String,
        /// The file in the repo.
        file: String,
        /// The lock file.
        lock: PathBuf,
    },
    /// Anything else.
    #[error("cannot fetch {file} from {repo}: {reason}")]
    Other {
        /// `owner/name`.
        repo: String,
        /// The file in the repo.
        file: String,
        /// What the client said.
        reason: String,
    },
    /// An error whose text repeated a secret, without it.
    #[error("{0}")]
    Hidden(String),
}
