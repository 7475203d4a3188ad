//! Two sides of many streams, and a scheduler that lets time pass between any two steps: properties that hold whatever
//! happens in which order.

use std::collections::VecDeque;
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::header::Flags;
use crate::limits::{Seq, StreamWindow};
use crate::session::ProtocolError;

/// A message on its way.
#[derive(Clone, Copy, Debug)]
enum Sent {
    Item { body_len: usize, flags: Flags },
    End,
    Credit(u64),
    Stop,
}

/// One side of one stream: the client if `ends`.
struct Side {
    state: StreamState,
    /// Messages to this side.
    wire: VecDeque<Sent>,
    /// Items that were received and not yet taken.
    inbox: VecDeque<usize>,
    /// Lengths of items that the application sent, and those that it got.
    sent: Vec<usize>,
    taken: Vec<usize>,
    ended: bool,
    largest: usize,
}

impl Side {
    fn new(send: StreamWindow, receive: WindowLimits) -> Self {
        let state = StreamState::new(Seq(1), send, receive);
        let (wire, inbox) = (VecDeque::new(), VecDeque::new());
        Self { state, wire, inbox, sent: Vec::new(), taken: Vec::new(), ended: false, largest: 0 }
    }

    fn held_at_most(&self, max: StreamWindow) -> bool {
        let held: u64 = self.inbox.iter().map(|len| item_cost(*len)).sum();
        held < max.get() as u64 + item_cost(self.largest)
    }
}

struct World {
    sides: [Side; 2],
    max: StreamWindow,
    /// The bytes that all windows may grow by.
    growth: usize,
    now: Instant,
}

impl World {
    fn new(windows: [StreamWindow; 2], max: StreamWindow) -> Self {
        let limits = |initial: StreamWindow| WindowLimits { initial, max: max.max(initial) };
        let sides = [Side::new(windows[1], limits(windows[0])), Side::new(windows[0], limits(windows[1]))];
        let max = max.max(windows[0]).max(windows[1]);
        Self { sides, max, growth: 1 << 20, now: Instant::now() }
    }

    fn peer(&mut self, side: usize) -> &mut Side {
        &mut self.sides[1 - side]
    }

    /// Sends an item if there is credit for it.
    fn send(&mut self, side: usize, body_len: usize) -> bool {
        let state = &mut self.sides[side].state;
        if !state.sends() || !state.send_window().poll_open() {
            return false;
        }
        let flags = state.send_window().spend(body_len);
        self.sides[side].sent.push(body_len);
        let peer = self.peer(side);
        peer.largest = peer.largest.max(body_len);
        peer.wire.push_back(Sent::Item { body_len, flags });
        true
    }

    /// Delivers the next message to `side`.
    fn deliver(&mut self, side: usize) -> Result<bool, ProtocolError> {
        let growth = &mut self.growth;
        let me = &mut self.sides[side];
        let Some(message) = me.wire.pop_front() else { return Ok(false) };
        match message {
            Sent::Item { body_len, flags } => {
                let grow = |more: usize| {
                    let room = *growth >= more;
                    *growth -= if room { more } else { 0 };
                    room
                };
                match me.state.receive_item(body_len, flags, self.now, grow)? {
                    ItemAction::Discard => {}
                    ItemAction::Deliver { credit } => {
                        me.inbox.push_back(body_len);
                        if let Some(limit) = credit {
                            self.peer(side).wire.push_back(Sent::Credit(limit));
                        }
                    }
                }
            }
            Sent::End => me.ended |= me.state.receive_end(),
            Sent::Credit(limit) => _ = me.state.receive_credit(limit),
            Sent::Stop => _ = me.state.receive_stop(),
        }
        Ok(true)
    }

    /// Hands the next item to the application of `side`.
    fn take(&mut self, side: usize) -> bool {
        let me = &mut self.sides[side];
        let Some(body_len) = me.inbox.pop_front() else { return false };
        me.taken.push(body_len);
        if let Some(limit) = me.state.consume(item_cost(body_len), || self.now) {
            self.peer(side).wire.push_back(Sent::Credit(limit));
        }
        true
    }

    fn stop(&mut self, side: usize) {
        if self.sides[side].state.stop() {
            self.sides[side].inbox.clear();
            self.peer(side).wire.push_back(Sent::Stop);
        }
    }

    fn end(&mut self) {
        if self.sides[0].state.end() {
            self.sides[1].wire.push_back(Sent::End);
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Send(usize, usize),
    Deliver(usize),
    Take(usize),
    Stop(usize),
    End,
    Shrink(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let side = 0_usize..2;
    let size = prop_oneof![4 => 0_usize..300, 1 => 300_usize..40_000];
    prop_oneof![
        20 => (side.clone(), size).prop_map(|(side, size)| Step::Send(side, size)),
        20 => side.clone().prop_map(Step::Deliver),
        15 => side.clone().prop_map(Step::Take),
        1 => side.clone().prop_map(Step::Shrink),
    ]
}

fn ending() -> impl Strategy<Value = Step> {
    prop_oneof![20 => step(), 1 => (0_usize..2).prop_map(Step::Stop), 1 => Just(Step::End)]
}

fn windows() -> impl Strategy<Value = ([StreamWindow; 2], StreamWindow)> {
    let window = || (1_usize..5000).prop_map(StreamWindow::new);
    ([window(), window()], (1_usize..50_000).prop_map(StreamWindow::new))
}

fn run(world: &mut World, step: Step) -> Result<(), TestCaseError> {
    match step {
        Step::Send(side, size) => _ = world.send(side, size),
        Step::Deliver(side) => {
            let delivered = world.deliver(side);
            prop_assert!(delivered.is_ok(), "{:?}", delivered);
        }
        Step::Take(side) => _ = world.take(side),
        Step::Stop(side) => world.stop(side),
        Step::End => world.end(),
        Step::Shrink(side) => {
            world.now += std::time::Duration::from_secs(11);
            let now = world.now;
            world.growth += world.sides[side].state.receive_window().shrink(now);
        }
    }
    Ok(())
}

proptest! {
    /// Promises 2 and 3: whatever was sent before, a direction whose receiver takes everything can send again, an item of
    /// any size; and a receiver holds at most what it granted and one item more.
    #[test]
    fn direction_that_is_read_never_stalls(
        (windows, max) in windows(),
        steps in prop::collection::vec(step(), 0..200),
        size in 0_usize..1_000_000,
    ) {
        let mut world = World::new(windows, max);
        for step in steps {
            run(&mut world, step)?;
            for side in &world.sides {
                prop_assert!(side.held_at_most(world.max), "{:?}", side.inbox);
            }
        }
        for side in 0..2 {
            while world.deliver(0).unwrap() | world.deliver(1).unwrap() | world.take(0) | world.take(1) {}
            prop_assert!(world.send(side, size), "side {} cannot send", side);
        }
        while world.deliver(0).unwrap() | world.deliver(1).unwrap() | world.take(0) | world.take(1) {}
        prop_assert_eq!(&world.sides[0].sent, &world.sides[1].taken);
        prop_assert_eq!(&world.sides[1].sent, &world.sides[0].taken);
        for side in &mut world.sides {
            prop_assert_eq!(side.state.receive_window().held(), 0);
        }
    }

    /// Promise 5: an end comes behind all items, a stopped direction gives none after the stop, and neither peer breaks the
    /// protocol.
    #[test]
    fn ends_are_in_order_and_break_no_rule(
        (windows, max) in windows(),
        steps in prop::collection::vec(ending(), 0..300),
    ) {
        let mut world = World::new(windows, max);
        for step in steps {
            let taken = world.sides.each_ref().map(|side| (side.state.receives(), side.taken.len()));
            run(&mut world, step)?;
            for (side, (open, count)) in world.sides.iter().zip(taken) {
                prop_assert!(open || !side.inbox.is_empty() || side.taken.len() <= count + 1);
            }
        }
        while world.deliver(0).unwrap() | world.deliver(1).unwrap() | world.take(0) | world.take(1) {}
        let [client, server] = &world.sides;
        prop_assert!(server.sent.starts_with(&client.taken));
        prop_assert!(client.sent.starts_with(&server.taken));
        if server.ended {
            prop_assert_eq!(&client.sent, &server.taken);
        }
    }

    /// Promise 1: what other streams do changes nothing for one. Its window is the only state that it asks.
    #[test]
    fn stream_with_credit_can_send_beside_255_that_are_not_read(sizes in prop::collection::vec(0_usize..5000, 1..50)) {
        let window = StreamWindow::new(4096);
        let mut still: Vec<World> = (0..255).map(|_| World::new([window; 2], window)).collect();
        for world in &mut still {
            while world.send(1, 1000) {}
            while world.deliver(0).unwrap() {}
        }
        let mut read = World::new([window; 2], window);
        for size in &sizes {
            prop_assert!(read.send(1, *size));
            while read.deliver(0).unwrap() | read.deliver(1).unwrap() | read.take(0) {}
        }
        prop_assert_eq!(&read.sides[0].taken, &sizes);
    }

    /// Every message in every state: either it is legal or it is an error, and nothing panics or overflows.
    #[test]
    fn any_message_is_legal_in_any_state_or_an_error(
        messages in prop::collection::vec((0_u8..6, prop_oneof![any::<u64>(), 0_u64..10_000], any::<bool>()), 0..100),
    ) {
        let window = StreamWindow::new(5000);
        let limits = WindowLimits { initial: window, max: StreamWindow::new(20_000) };
        let mut state = StreamState::new(Seq(9), window, limits);
        let mut held = VecDeque::new();
        for (kind, number, starved) in messages {
            let flags = if starved { Flags::STARVED } else { Flags::NONE };
            match kind {
                0 => match state.receive_item(number as usize, flags, Instant::now(), |_| number % 2 == 0) {
                    Ok(ItemAction::Deliver { .. }) => held.push_back(number as usize),
                    Ok(ItemAction::Discard) => prop_assert!(!state.receives()),
                    Err(ProtocolError::ItemAfterEnd { seq }) => prop_assert_eq!(seq, Seq(9)),
                    Err(ProtocolError::CreditExceeded { error, .. }) => prop_assert!(error.spent >= error.granted),
                    Err(other) => prop_assert!(false, "{}", other),
                },
                1 => _ = state.receive_end(),
                2 => _ = state.receive_credit(number),
                3 => _ = state.receive_stop(),
                4 => _ = state.stop(),
                _ => if let Some(body_len) = held.pop_front() {
                    state.consume(item_cost(body_len), Instant::now);
                },
            }
        }
    }
}
