//! Why something was refused: a closed set of codes, each with what an operator can do about it.

use std::fmt;

/// Why a request, flow or name was refused.
///
/// The code of [`DenyReason::as_str`] is stable: it stands in refusal bodies, in the
/// `x-sluicegate-reason` header and in the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DenyReason {
    /// The path can be read in two ways and a rule of this host limits paths.
    AmbiguousPath,
    /// A person was asked and said no.
    ApprovalDenied,
    /// A rule with `ask` matched; under `mode = "audit"` nobody is asked, and this is only logged.
    ApprovalRequired,
    /// A person was asked and did not answer in time.
    ApprovalTimeout,
    /// Too many questions wait for a person already.
    ApprovalsFull,
    /// The audit log cannot be written, so nothing may happen unrecorded.
    AuditUnavailable,
    /// The request names another host than the TLS connection was opened for (SNI).
    AuthorityMismatch,
    /// CONNECT asks for a tunnel whose contents nobody could judge.
    ConnectRefused,
    /// A handler refused.
    DeniedByHandler,
    /// A rule with `deny = "…"` matched.
    DeniedByRule,
    /// `denied_hosts` names the host or the address it resolves to.
    DeniedHost,
    /// More DNS questions than are answered in a second.
    DnsRate,
    /// A name below a domain under which the workload asked for many names that look like data.
    DnsTunnel,
    /// DNS over HTTPS or TLS to a name server of the workload's choice.
    EncryptedDns,
    /// The name resolves to an address that is private, local or otherwise reserved.
    ForbiddenAddress,
    /// A handler threw, used up a limit or returned what is no response.
    HandlerFailed,
    /// A handler took longer than `wall_ms` or `cpu_ms` of `[handler_limits]`.
    HandlerTimeout,
    /// A message of a WebSocket that is to be judged cannot be read: frames that break RFC 6455, a text that is
    /// not UTF-8, or one that is too long.
    MalformedMessage,
    /// The request is not valid HTTP, or says one thing in two ways.
    MalformedRequest,
    /// The request arrived on a connection that does not serve its authority.
    Misdirected,
    /// Rules name the host, and none of them matches this method and path.
    NoRuleMatches,
    /// `allowed_hosts` is present and does not name the host.
    NotInAllowedHosts,
    /// Nothing names the host and `internet` is off.
    NotNamed,
    /// A TCP flow that is neither TLS nor HTTP, and that no pattern in `tcp` names.
    OpaqueFlow,
    /// A secret would have gone to a host that it is not bound to.
    SecretNotBound,
    /// A secret would have gone over unencrypted HTTP.
    SecretOverPlainHttp,
    /// A secret that the rule puts on has no value now.
    SecretUnavailable,
    /// TLS without a server name, to an address that no rule names.
    ServerNameMissing,
    /// A UDP datagram other than DNS that no pattern in `udp` names.
    UdpFlow,
    /// The first bytes could not be classified in time.
    UnknownProtocol,
    /// The request asks to change the protocol of its connection in a way that is not passed on.
    UpgradeNotSupported,
}

impl DenyReason {
    /// Every reason there is, by code.
    pub const ALL: [Self; 31] = [
        Self::AmbiguousPath,
        Self::ApprovalDenied,
        Self::ApprovalRequired,
        Self::ApprovalTimeout,
        Self::ApprovalsFull,
        Self::AuditUnavailable,
        Self::AuthorityMismatch,
        Self::ConnectRefused,
        Self::DeniedByHandler,
        Self::DeniedByRule,
        Self::DeniedHost,
        Self::DnsRate,
        Self::DnsTunnel,
        Self::EncryptedDns,
        Self::ForbiddenAddress,
        Self::HandlerFailed,
        Self::HandlerTimeout,
        Self::MalformedMessage,
        Self::MalformedRequest,
        Self::Misdirected,
        Self::NoRuleMatches,
        Self::NotInAllowedHosts,
        Self::NotNamed,
        Self::OpaqueFlow,
        Self::SecretNotBound,
        Self::SecretOverPlainHttp,
        Self::SecretUnavailable,
        Self::ServerNameMissing,
        Self::UdpFlow,
        Self::UnknownProtocol,
        Self::UpgradeNotSupported,
    ];

    /// The stable code, in snake case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AmbiguousPath => "ambiguous_path",
            Self::ApprovalDenied => "approval_denied",
            Self::ApprovalRequired => "approval_required",
            Self::ApprovalTimeout => "approval_timeout",
            Self::ApprovalsFull => "approvals_full",
            Self::AuditUnavailable => "audit_unavailable",
            Self::AuthorityMismatch => "authority_mismatch",
            Self::ConnectRefused => "connect_refused",
            Self::DeniedByHandler => "denied_by_handler",
            Self::DeniedByRule => "denied_by_rule",
            Self::DeniedHost => "denied_host",
            Self::DnsRate => "dns_rate",
            Self::DnsTunnel => "dns_tunnel",
            Self::EncryptedDns => "encrypted_dns",
            Self::ForbiddenAddress => "forbidden_address",
            Self::HandlerFailed => "handler_failed",
            Self::HandlerTimeout => "handler_timeout",
            Self::MalformedMessage => "malformed_message",
            Self::MalformedRequest => "malformed_request",
            Self::Misdirected => "misdirected",
            Self::NoRuleMatches => "no_rule_matches",
            Self::NotInAllowedHosts => "not_in_allowed_hosts",
            Self::NotNamed => "not_named",
            Self::OpaqueFlow => "opaque_flow",
            Self::SecretNotBound => "secret_not_bound",
            Self::SecretOverPlainHttp => "secret_over_plain_http",
            Self::SecretUnavailable => "secret_unavailable",
            Self::ServerNameMissing => "server_name_missing",
            Self::UdpFlow => "udp_flow",
            Self::UnknownProtocol => "unknown_protocol",
            Self::UpgradeNotSupported => "upgrade_not_supported",
        }
    }

    /// One sentence: what to change, and where, if this was meant to pass.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "one for each reason, and nothing else")]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::AmbiguousPath => {
                "Send the path without dot segments, encoded slashes or backslashes, or drop `paths` from the rules of this host."
            }
            Self::ApprovalDenied => {
                "Ask whoever answered, or write a rule without `ask` for what should pass unasked."
            }
            Self::ApprovalRequired => {
                "Nothing was held up: without `mode = \"audit\"` a person would have been asked."
            }
            Self::ApprovalTimeout => {
                "Answer within the time that the rule or the handler gives, or give it more with `ask_seconds`."
            }
            Self::ApprovalsFull => "Answer the questions that wait, or ask less often.",
            Self::AuditUnavailable => "Make the audit log writable again: check its disk and permissions.",
            Self::AuthorityMismatch => {
                "Open a connection for the host that the request names; Host and SNI must agree."
            }
            Self::ConnectRefused => {
                "Unset HTTP_PROXY and HTTPS_PROXY in the workload and dial the host directly; the gate sees the traffic without a proxy setting."
            }
            Self::DeniedByHandler => "Change the handler, or bind another one to this host.",
            Self::DeniedByRule => "Change or remove the `deny` rule that is named here.",
            Self::DeniedHost => "Remove the pattern that is named here from `denied_hosts`.",
            Self::DnsRate => {
                "Ask less often, or raise `questions_per_second` in `[dns]`; questions that are asked upstream are 20 a second at most."
            }
            Self::DnsTunnel => {
                "Find out what in the workload asks for these names; it may go on after ten minutes without them."
            }
            Self::EncryptedDns => {
                "Use the name server that the workload has, name this host exactly in the policy, or set `encrypted = \"allow\"` in `[dns]`."
            }
            Self::ForbiddenAddress => {
                "Name the address range in `[upstream] allow_ranges`, or the host and address in `[upstream] resolve`."
            }
            Self::HandlerFailed => "Correct the handler: the audit log has its file, line and message.",
            Self::HandlerTimeout => {
                "Make the handler do less, or raise `cpu_ms` or `wall_ms` in `[handler_limits]`."
            }
            Self::MalformedMessage => {
                "Correct whoever sent it, or raise `body_bytes` in `[handler_limits]` where it was too long."
            }
            Self::MalformedRequest => {
                "Correct the client: the request must be valid HTTP with exactly one host, one length and no control characters."
            }
            Self::Misdirected => {
                "Open a new connection for this host instead of reusing one of another host."
            }
            Self::NoRuleMatches => {
                "Widen `methods` or `paths` of a rule for this host, or add a [[rules]] entry that matches the request."
            }
            Self::NotInAllowedHosts => {
                "Add the host to `allowed_hosts`, with its port unless it is the scheme's own."
            }
            Self::NotNamed => {
                "Add the host to `allowed_hosts`, write a [[rules]] entry for it, or set `internet = true`."
            }
            Self::OpaqueFlow => {
                "Name the host with this port in `tcp`, or use the service's HTTP or TLS endpoint."
            }
            Self::SecretNotBound => {
                "Add the host to `hosts` of the secret, or stop using the secret in this rule."
            }
            Self::SecretOverPlainHttp => {
                "Use https, or set `plaintext = true` on the secret if it may travel unencrypted."
            }
            Self::SecretUnavailable => {
                "Give the secret a value at its `source`, and check that the gate may read it."
            }
            Self::ServerNameMissing => {
                "Use a client that sends a server name (SNI), or name the address itself in a rule or in `allowed_hosts`."
            }
            Self::UdpFlow => "Name the host with this port in `udp`, or use TCP.",
            Self::UnknownProtocol => "Send a TLS ClientHello or an HTTP request at once after connecting.",
            Self::UpgradeNotSupported => "Ask for one protocol that is not HTTP or TLS; see the audit log.",
        }
    }
}

impl fmt::Display for DenyReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_code_is_its_own_and_snake_case() {
        let codes: HashSet<&str> = DenyReason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(codes.len(), DenyReason::ALL.len());
        for code in codes {
            assert!(code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{code}");
        }
    }

    #[test]
    fn every_hint_is_one_sentence() {
        for reason in DenyReason::ALL {
            let hint = reason.hint();
            assert!(hint.ends_with('.') && hint.matches(". ").count() == 0, "{reason}: {hint}");
        }
    }
}
