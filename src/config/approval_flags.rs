//! Flags of the commands for approvals, pins and tool policies.

use clap::{Arg, Args};

use crate::config::bridge_flags::PolicyChoice;
use crate::config::storage_flags::StorageFlags;

/// The commands.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ApprovalCommand {
    /// List tool calls that wait for a person, and decide about them
    ///
    /// Works while the gateway runs, with every store that keeps records. A decision asks for the
    /// password.
    #[command(mut_args(global))]
    Approvals {
        /// The action.
        #[command(subcommand)]
        action: Approvals,
        /// Where the approvals are.
        #[command(flatten)]
        storage: StorageFlags,
    },
    /// List, compare and approve the definitions of tools
    #[command(mut_args(global))]
    Pins {
        /// The action.
        #[command(subcommand)]
        action: Pins,
        /// Where the pins are.
        #[command(flatten)]
        storage: StorageFlags,
    },
    /// Show what the tool policies mean for each known tool, and change their rules
    #[command(mut_args(global))]
    Policy {
        /// The action.
        #[command(subcommand)]
        action: Policy,
        /// Where the pins are.
        #[command(flatten)]
        storage: StorageFlags,
    },
}

/// Who decides.
#[derive(Clone, Debug, Args)]
pub struct DeciderFlags {
    /// The user who decides; may be left out if there is only one
    #[arg(long, env = "MCP_GATEWAY_USERNAME")]
    pub user: Option<String>,
    /// Read the password from standard input instead of the terminal
    #[arg(long)]
    pub password_stdin: bool,
}

/// Actions of `approvals`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Approvals {
    /// List the tool calls that wait for a person, the oldest first
    List {
        /// List decided calls too
        #[arg(long)]
        all: bool,
        /// Print JSON, one object on each line
        #[arg(long)]
        json: bool,
    },
    /// Print calls as they come, until interrupted
    Watch {
        /// Print JSON, one object on each line
        #[arg(long)]
        json: bool,
    },
    /// Approve calls: each is sent once, with exactly the arguments that `list --json` shows
    Approve {
        /// The ids that `list` shows
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        /// Who decides.
        #[command(flatten)]
        decider: DeciderFlags,
    },
    /// Deny calls
    Deny {
        /// The ids that `list` shows
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        /// Who decides.
        #[command(flatten)]
        decider: DeciderFlags,
    },
}

/// Actions of `pins`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Pins {
    /// List the tools of a service, and whether their definitions are the pinned ones
    List {
        /// The service
        service: String,
        /// Print JSON, one object on each line
        #[arg(long)]
        json: bool,
    },
    /// Show the definitions that changed or are new, before and after
    Diff {
        /// The service
        service: String,
    },
    /// Approve the latest definition of a tool, or of all tools
    Approve {
        /// The service
        service: String,
        /// The tool; without it, all tools
        tool: Option<String>,
        /// The digest that `list` or `diff` shows; another definition is not approved
        #[arg(long, value_name = "DIGEST")]
        expect: String,
        /// Who decides.
        #[command(flatten)]
        decider: DeciderFlags,
    },
    /// Forget the pins of a service: the next list of its tools is the first one again
    Reset {
        /// The service
        service: String,
        /// Who decides.
        #[command(flatten)]
        decider: DeciderFlags,
    },
}

/// Actions of `policy`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Policy {
    /// Show the tool policies of the configuration file, and what they mean for each known tool
    Show {
        /// The service; without it, all
        service: Option<String>,
        /// Print JSON, one object on each line
        #[arg(long)]
        json: bool,
    },
    /// Write a rule into the configuration file: for one tool, or for all without a rule of their own
    ///
    /// Asks for the password of an approver. A running gateway uses the rule at once, and calls that
    /// were approved under the old policy are not executed.
    Set {
        /// The service
        service: String,
        /// What a call needs
        #[arg(value_enum)]
        rule: PolicyChoice,
        /// Whose rule it is.
        #[command(flatten)]
        scope: RuleScope,
        /// Who decides.
        #[command(flatten)]
        decider: DeciderFlags,
    },
    /// Remove a rule from the configuration file
    Unset {
        /// The service
        service: String,
        /// Whose rule it is.
        #[command(flatten)]
        scope: RuleScope,
        /// Who decides.
        #[command(flatten)]
        decider: DeciderFlags,
    },
}

/// The tools of a rule.
#[derive(Clone, Debug, Args)]
#[group(multiple = false)]
pub struct RuleScope {
    /// The tool, or a pattern with * for several [default: all tools without a rule of their own]
    #[arg(long, value_name = "NAME")]
    pub tool: Option<String>,
    /// All tools that an approved definition calls read-only
    #[arg(long)]
    pub read_only: bool,
}

/// Accepts a flag before and after the action.
fn global(flag: Arg) -> Arg {
    flag.global(true)
}
