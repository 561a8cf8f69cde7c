//! How a command ends: exit codes that scripts rely on, and failures that say the way out.

use crate::api::ClientError;
use crate::config::ConfigError;
use crate::images::ImageError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Ok,
    /// A run failed or is held, a build failed, doctor found something.
    Failed,
    Usage,
    NotFound,
    Refused,
    Invalid,
    /// The pool has no machine for this.
    Nothing,
    TimedOut,
    Unreachable,
    Internal,
    Interrupted,
    /// A command in a claimed machine ended with this.
    Command(u8),
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Refused => 4,
            Self::Invalid => 5,
            Self::Nothing => 6,
            Self::TimedOut => 7,
            Self::Unreachable => 8,
            Self::Internal => 70,
            Self::Interrupted => 130,
            Self::Command(code) => code,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub exit: Exit,
    /// May quote what strangers wrote; made harmless where it is printed.
    pub message: String,
    /// What would help.
    pub way_out: Option<String>,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            way_out: None,
        }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Exit::Internal, message)
    }

    pub fn with_way_out(mut self, way_out: impl Into<String>) -> Self {
        self.way_out = Some(way_out.into());
        self
    }

    /// A file that cannot be read.
    pub fn of_file(path: &std::path::Path, error: &std::io::Error) -> Self {
        let exit = match error.kind() {
            std::io::ErrorKind::NotFound => Exit::NotFound,
            _ => Exit::Invalid,
        };
        Self::new(exit, format!("{} cannot be read: {error}", path.display()))
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::from_client(&error)
    }
}

impl Failure {
    pub fn from_client(error: &ClientError) -> Self {
        let (exit, way_out) = match error {
            ClientError::Mistake(_) => (Exit::Usage, None),
            ClientError::NotFound(_) => (Exit::NotFound, None),
            ClientError::Conflict(_) => (Exit::Refused, None),
            ClientError::Invalid(_) => (Exit::Invalid, None),
            ClientError::Server(problem) if problem.status == 503 => (Exit::Unreachable, None),
            ClientError::Server(_) => (
                Exit::Internal,
                Some("the daemon's log has more".to_owned()),
            ),
            ClientError::Unreachable { why, .. } => (Exit::Unreachable, Some(reach(why))),
            ClientError::TimedOut(_) => (
                Exit::TimedOut,
                Some("see `greenroom status` and the daemon's log".to_owned()),
            ),
            ClientError::Broken(_) => (
                Exit::Unreachable,
                Some("runs go on by themselves; see `greenroom status`".to_owned()),
            ),
            ClientError::Foreign(_) => (
                Exit::Internal,
                Some("daemon and command line may be of different versions; `greenroom --version` and `greenroom status` tell".to_owned()),
            ),
        };
        Self {
            exit,
            message: error.to_string(),
            way_out,
        }
    }
}

/// What helps against a socket that does not answer, by the system's words for it.
fn reach(why: &str) -> String {
    if why.contains("ermission denied") {
        return "you may not open the socket: use sudo, or set socket_group to a group of yours and restart the daemon".to_owned();
    }
    "start the daemon with `greenroom serve`, or name its socket with --socket or GREENROOM_SOCKET"
        .to_owned()
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let exit = match &error {
            ConfigError::Unreadable { error, .. }
                if error.kind() == std::io::ErrorKind::NotFound =>
            {
                Exit::NotFound
            }
            _ => Exit::Invalid,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        let exit = match &error {
            ImageError::Missing { .. } => Exit::NotFound,
            ImageError::Recipe { .. } => Exit::Invalid,
            ImageError::Damaged { .. } | ImageError::Build { .. } | ImageError::Io { .. } => {
                Exit::Failed
            }
        };
        Self::new(exit, error.to_string())
    }
}
