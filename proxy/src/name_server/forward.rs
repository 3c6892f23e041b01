//! Questions that are asked upstream: records other than addresses, of names that the policy says so for.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::Record;
use tokio::sync::OwnedSemaphorePermit;

use super::message::{Answer, Question};
use crate::audit::{AuditRecord, Verdict};
use crate::causes::in_words;
use crate::upstream::{Records, Upstream};

/// The answer to a question, or the way to it.
#[derive(Debug)]
pub enum Reply {
    /// The answer on the wire.
    Ready(Vec<u8>),
    /// It has to be asked for.
    Forward(Box<Forward>),
}

/// A question that a name server of ours is to answer. It leaves a record, whatever becomes of it.
#[derive(Debug)]
pub struct Forward {
    pub(super) question: Box<Question>,
    /// The name that is asked for, normalised: the workload's spelling carries nothing out.
    pub(super) name: Box<str>,
    pub(super) record: AuditRecord,
    /// Held until there is an answer.
    pub(super) _room: OwnedSemaphorePermit,
}

impl Reply {
    /// The answer on the wire, asked for from the name servers of `upstream` if it has to be.
    pub async fn bytes(self, upstream: &Upstream) -> Option<Vec<u8>> {
        match self {
            Self::Ready(answer) => Some(answer),
            Self::Forward(forward) => forward.ask(upstream).await,
        }
    }
}

impl Forward {
    async fn ask(self, upstream: &Upstream) -> Option<Vec<u8>> {
        let Self { question, name, mut record, _room } = self;
        let answer = match upstream.records(&name, question.query.query_type()).await {
            Ok(records) => {
                record.verdict = Some(Verdict::Allowed);
                match records {
                    Records::Found(records) => Answer::Records(spelled_as_asked(records, &question)),
                    Records::NoData => Answer::NoData,
                    Records::NoName => Answer::Failure(ResponseCode::NXDomain),
                }
            }
            Err(error) => {
                record.reason = Some(error.code());
                record.set_detail(in_words(&error));
                Answer::Failure(ResponseCode::ServFail)
            }
        };
        question.answer(answer)
    }
}

/// Gives records the spelling of the question: a resolver that asks in random case drops others.
fn spelled_as_asked(mut records: Vec<Record>, question: &Question) -> Vec<Record> {
    let asked = question.query.name();
    for record in records.iter_mut().filter(|record| record.name == *asked) {
        record.name = asked.clone();
    }
    records
}
