//! What users of a stream hold: its halves, and the answer to one that somebody else opens.

use std::sync::Arc;

use bzzz::ports::bulk::{
    Answer, BulkError, BulkId, BulkReader, BulkStream, BulkWriter, Read, Refusal, Then,
};

use super::{AGAIN, BulkLinks, Line, Writing};

/// The answer to a stream that somebody else opens.
pub(super) struct SimAnswer {
    pub(super) links: BulkLinks,
    pub(super) line: Arc<Line>,
}

impl SimAnswer {
    /// Has the opener hear the answer, once the link carries it.
    fn give(self, answer: Result<(), Refusal>) {
        let (to, from) = self.line.way(0);
        if !self.links.wires.carries(from.1, to.1) {
            let heap = self.links.heap.clone();
            // It ends: the opener does not wait for ever.
            if self.line.ends()[0].opening.is_some() {
                heap.schedule(AGAIN, move || self.give(answer));
            }
            return;
        }
        if let Err(why) = answer {
            return self.links.fail(&self.line, 0, BulkError::Refused(why));
        }
        let opening = self.line.ends()[0].opening.take();
        if let Some(then) = opening {
            let Self { links, line } = self;
            let stream = stream(&links, &line, 0);
            links.tell(to, move || then(Ok(stream)));
        }
    }

    fn give_later(self, answer: Result<(), Refusal>) {
        let (to, from) = self.line.way(0);
        // What a node without power has dropped is no answer.
        if self.links.is_alive(from) {
            let way = self.links.delay(from.1, to.1, 0);
            self.links.heap.clone().schedule(way, move || self.give(answer));
        }
    }
}

impl Answer for SimAnswer {
    fn accept(self: Box<Self>) -> BulkStream {
        let stream = stream(&self.links, &self.line, 1);
        self.give_later(Ok(()));
        stream
    }

    fn refuse(self: Box<Self>, why: Refusal) {
        self.give_later(Err(why));
    }
}

fn stream(links: &BulkLinks, line: &Arc<Line>, side: usize) -> BulkStream {
    let half = || Box::new(Half::new(links, line, side));
    let peer = line.way(side).1.0;
    BulkStream { id: BulkId(line.id), peer, reader: half(), writer: half() }
}

/// Either half of one end. Dropped before it was disarmed, it cancels the stream.
pub(super) struct Half {
    links: BulkLinks,
    line: Arc<Line>,
    side: usize,
    is_armed: bool,
}

impl Half {
    pub(super) fn new(links: &BulkLinks, line: &Arc<Line>, side: usize) -> Self {
        Self { links: links.clone(), line: line.clone(), side, is_armed: true }
    }

    pub(super) fn disarm(mut self) {
        self.is_armed = false;
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        if self.is_armed {
            self.links.fail(&self.line, self.side, BulkError::Cancelled);
        }
    }
}

impl BulkReader for Half {
    fn read(self: Box<Self>, then: Then<Read>) {
        let (links, line, side) = (self.links.clone(), self.line.clone(), self.side);
        let mut then = Some(then);
        let begun = links.begin(&line, side, false, |end| end.reading = then.take());
        self.disarm();
        match (begun, then) {
            (Err(why), Some(then)) => then(Err(why)),
            _ => links.serve_reader(&line, side),
        }
    }
}

impl BulkWriter for Half {
    fn write(self: Box<Self>, chunk: Vec<u8>, then: Then<Box<dyn BulkWriter>>) {
        let (links, line, side) = (self.links.clone(), self.line.clone(), self.side);
        if let Err(why) = BulkError::check_chunk(&chunk) {
            links.fail(&line, side, why.clone());
            return then(Err(why));
        }
        let mut writing = Some(Writing::Chunk(chunk, then));
        let begun = links.begin(&line, side, true, |end| end.writing = writing.take());
        self.disarm();
        match (begun, writing) {
            (Err(why), Some(writing)) => writing.fail(why),
            _ => links.serve_writer(&line, side),
        }
    }

    fn finish(self: Box<Self>, then: Then<()>) {
        let (links, line, side) = (self.links.clone(), self.line.clone(), self.side);
        let mut writing = Some(Writing::End(then));
        let begun = links.begin(&line, side, true, |end| end.writing = writing.take());
        self.disarm();
        match (begun, writing) {
            (Err(why), Some(writing)) => writing.fail(why),
            _ => links.serve_writer(&line, side),
        }
    }
}
