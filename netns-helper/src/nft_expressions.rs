//! What of nftables the nftnl crate lacks: three expressions, and a table's flags.

use nftnl::expr::{Expression, Register};
use nftnl::nftnl_sys as sys;
use nftnl::{MsgType, NlMsg, ProtoFamily, Rule};
use std::ffi::{CStr, c_void};
use std::ptr::NonNull;

/// `NFT_CT_DIRECTION` (linux/netfilter/nf_tables.h).
const CONNECTION_DIRECTION: u32 = 1;

/// `tproxy to REG1:REG2`, which the nftnl crate lacks.
pub(crate) struct Tproxy {
    /// 2 or 10, as `nfproto` counts.
    pub(crate) family: u8,
}

#[expect(clippy::cast_possible_truncation, reason = "attribute numbers have 16 bits")]
impl Expression for Tproxy {
    fn to_expr(&self, _rule: &Rule<'_>) -> NonNull<sys::nftnl_expr> {
        let expression = allocate(c"tproxy");
        let set = |attribute: u32, value: u32| {
            // SAFETY: the expression was just allocated, and the attributes of tproxy are 32-bit numbers.
            unsafe { sys::nftnl_expr_set_u32(expression.as_ptr(), attribute as u16, value) };
        };
        set(sys::NFTNL_EXPR_TPROXY_FAMILY, u32::from(self.family));
        set(sys::NFTNL_EXPR_TPROXY_REG_ADDR, Register::Reg1.to_raw());
        set(sys::NFTNL_EXPR_TPROXY_REG_PORT, Register::Reg2.to_raw());
        expression
    }
}

/// `notrack`, which the nftnl crate lacks.
pub(crate) struct NoTrack;

impl Expression for NoTrack {
    fn to_expr(&self, _rule: &Rule<'_>) -> NonNull<sys::nftnl_expr> {
        allocate(c"notrack")
    }
}

/// `ct direction`, which the nftnl crate lacks.
pub(crate) struct Direction;

#[expect(clippy::cast_possible_truncation, reason = "attribute numbers have 16 bits")]
impl Expression for Direction {
    fn to_expr(&self, _rule: &Rule<'_>) -> NonNull<sys::nftnl_expr> {
        let expression = allocate(c"ct");
        let set = |attribute: u32, value: u32| {
            // SAFETY: the expression was just allocated, and these attributes of ct are 32-bit numbers.
            unsafe { sys::nftnl_expr_set_u32(expression.as_ptr(), attribute as u16, value) };
        };
        set(sys::NFTNL_EXPR_CT_DREG, Register::Reg1.to_raw());
        set(sys::NFTNL_EXPR_CT_KEY, CONNECTION_DIRECTION);
        expression
    }
}

fn allocate(name: &CStr) -> NonNull<sys::nftnl_expr> {
    // SAFETY: the name is NUL-terminated; libnftnl answers NULL for a name it does not know.
    let expression = unsafe { sys::nftnl_expr_alloc(name.as_ptr()) };
    // Only for want of memory: both names are older than the libnftnl that is linked in.
    NonNull::new(expression).unwrap_or_else(|| std::process::abort())
}

/// A table of ours with its flags, which the nftnl crate always writes as 0.
pub(crate) struct FlaggedTable {
    pub(crate) name: &'static CStr,
    pub(crate) flags: u32,
}

#[expect(clippy::cast_possible_truncation, reason = "attribute, message and flag numbers have 16 bits")]
// SAFETY: a short name and three numbers are far below the largest netlink message.
unsafe impl NlMsg for FlaggedTable {
    unsafe fn write(&self, buffer: *mut c_void, sequence: u32, message: MsgType) {
        let kind = match message {
            MsgType::Add => libc::NFT_MSG_NEWTABLE,
            MsgType::Del => libc::NFT_MSG_DELTABLE,
        };
        // SAFETY: the caller hands in a buffer for the largest message (the trait's contract); the
        // table lives from its allocation to its free below, and an absent one aborts.
        unsafe {
            let table =
                NonNull::new(sys::nftnl_table_alloc()).unwrap_or_else(|| std::process::abort()).as_ptr();
            sys::nftnl_table_set_u32(table, sys::NFTNL_TABLE_FAMILY as u16, ProtoFamily::Inet as u32);
            sys::nftnl_table_set_str(table, sys::NFTNL_TABLE_NAME as u16, self.name.as_ptr());
            if self.flags != 0 {
                sys::nftnl_table_set_u32(table, sys::NFTNL_TABLE_FLAGS as u16, self.flags);
            }
            let header = sys::nftnl_nlmsg_build_hdr(
                buffer.cast(),
                kind as u16,
                ProtoFamily::Inet as u16,
                libc::NLM_F_ACK as u16,
                sequence,
            );
            sys::nftnl_table_nlmsg_build_payload(header.cast(), table);
            sys::nftnl_table_free(table);
        }
    }
}
