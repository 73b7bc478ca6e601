//! The limit of open files of this process, which each connection counts for.

/// More open files are never requested.
#[cfg(unix)]
const MAX_OPEN_FILES: u64 = 1 << 20;

/// Raises the limit of open files as far as the system allows this process. Returns the limit; `None` if
/// there is none, or it is not known.
#[cfg(unix)]
pub fn raise_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let current = limit.current?;
    let wanted = limit.maximum.unwrap_or(MAX_OPEN_FILES).min(MAX_OPEN_FILES);
    if wanted <= current {
        return Some(current);
    }
    let raised = Rlimit {
        current: Some(wanted),
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => Some(wanted),
        Err(error) => {
            tracing::debug!(%error, "the limit of open files stays");
            Some(current)
        }
    }
}

/// Windows has no such limit.
#[cfg(not(unix))]
pub fn raise_limit() -> Option<u64> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::raise_limit;

    #[test]
    fn the_limit_of_open_files_is_as_high_as_allowed() {
        let limit = raise_limit();
        let maximum = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
        let allowed = maximum.unwrap_or(super::MAX_OPEN_FILES).min(super::MAX_OPEN_FILES);
        assert!(limit.is_none_or(|limit| limit >= allowed), "{limit:?}, {allowed}");
    }
}
