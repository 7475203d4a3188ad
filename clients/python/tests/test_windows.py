"""Tests of the credit and the order of items, without connections and clocks."""

from __future__ import annotations

import random
import unittest

import support  # noqa: F401

from farcall.schedule import ITEM_QUANTUM, ItemSchedule
from farcall.windows import CreditExceeded, CreditTimes, Growth, ReceiveWindow, SendWindow, item_cost

KIB = 1024
BODY = KIB - 64


class SendWindowTest(unittest.TestCase):
    def test_an_item_of_any_size_passes_any_window(self):
        window = SendWindow(1)
        self.assertTrue(window.check())
        window.spend(1000)
        self.assertFalse(window.is_open)
        self.assertFalse(window.grant(1064))  # all of it is spent
        self.assertTrue(window.grant(1065))
        self.assertFalse(window.grant(2000))  # it was open
        self.assertEqual(window.spent, 1064)

    def test_an_item_after_a_wait_is_starved_and_the_next_is_not(self):
        window = SendWindow(1)
        self.assertTrue(window.check())
        self.assertFalse(window.spend(0))
        self.assertFalse(window.check())
        window.grant(1000)
        self.assertTrue(window.spend(0))
        self.assertFalse(window.spend(0))

    def test_the_limit_never_falls(self):
        window = SendWindow(500)
        window.grant(100)
        self.assertEqual(window.limit, 500)


class ReceiveWindowTest(unittest.TestCase):
    def setUp(self):
        self.growth = Growth(1 << 20)
        self.window = ReceiveWindow(4 * KIB, 16 * KIB, self.growth)

    def turn(self, starved: bool, now: float = 0.0) -> list[int | None]:
        grown = self.window.receive(BODY, starved, now)
        return [grown, self.window.consume(BODY, lambda: now)]

    def grow(self) -> None:
        for _ in range(40):
            self.turn(True)

    def test_an_item_without_credit_is_an_error(self):
        for _ in range(4):
            self.window.receive(BODY, False, 0.0)
        with self.assertRaisesRegex(CreditExceeded, "although 4096 of 4096 had been spent"):
            self.window.receive(0, False, 0.0)

    def test_credit_is_sent_when_half_of_the_window_was_consumed(self):
        credits = [self.turn(False)[1] for _ in range(4)]
        self.assertEqual(credits, [None, 6 * KIB, None, 8 * KIB])

    def test_an_item_larger_than_the_window_passes(self):
        self.window.receive(100 * KIB, False, 0.0)
        with self.assertRaises(CreditExceeded):
            self.window.receive(0, False, 0.0)
        self.assertEqual(self.window.consume(100 * KIB, lambda: 0.0), 100 * KIB + 64 + 4 * KIB)

    def test_a_window_doubles_when_starved_empty_and_consumed(self):
        for _ in range(4):
            self.assertIsNone(self.turn(True)[0])
            self.assertEqual(self.window.size, 4 * KIB)
        self.assertEqual(self.turn(True)[0], (4 + 8) * KIB)
        self.grow()
        self.assertEqual(self.window.size, 16 * KIB)  # the largest
        self.assertEqual(self.growth.left, (1 << 20) - 12 * KIB)

    def test_a_window_does_not_grow_while_items_wait_for_the_application(self):
        self.window.receive(BODY, True, 0.0)
        for _ in range(40):
            self.turn(True)
        self.assertEqual(self.window.size, 4 * KIB)

    def test_a_window_does_not_grow_without_starved_items_or_room(self):
        for _ in range(40):
            self.turn(False)
        self.assertEqual(self.window.size, 4 * KIB)
        self.window = ReceiveWindow(4 * KIB, 16 * KIB, Growth(4 * KIB - 1))
        self.grow()
        self.assertEqual(self.window.size, 4 * KIB)

    def size_at(self, delay: float, item: float) -> int:
        """The size after items of 64 KiB from a sender at this distance, each in this time.

        They are taken at once, and every seventh credit is 10 ms late.
        """
        window = ReceiveWindow(64 * KIB, 16 * KIB * KIB, Growth(1 << 30))
        now, limit, starved = 0.0, 64 * KIB, False
        credits: list[tuple[float, int]] = []
        number = 0
        for _ in range(5000):
            # The sender knows of the credits that have reached it.
            while credits and credits[0][0] <= now:
                limit = credits.pop(0)[1]
            if window.received >= limit:
                (now, limit), starved = credits.pop(0), True
            now += item
            grown = window.receive(64 * KIB - 64, starved, now)
            for granted in (grown, window.consume(64 * KIB - 64, lambda: now)):
                if granted is not None:
                    number += 1
                    credits.append((now + delay + (0.01 if number % 7 == 0 else 0.0), granted))
            starved = False
        return window.size

    def test_a_window_grows_beyond_1_mib_only_while_that_helps(self):
        for delay, item, mib in [
            (0.00005, 0.0001, 1),  # 655 MB/s: 1 MiB takes 1.6 ms
            (0.0002, 0.00002, 4),  # 3.3 GB/s: 2 MiB take 0.64 ms
            (0.05, 0.002, 4),  # 33 MB/s: 1.6 MB are on the way
            (0.05, 0.0001, 16),
        ]:
            self.assertEqual(self.size_at(delay, item), mib * KIB * KIB, (delay, item))

    def test_the_delay_is_that_of_the_credit_that_let_the_item_through(self):
        times = CreditTimes()
        times.credit(100, 150, 0, 0.0)
        times.credit(150, 200, 149, 0.049)
        times.starved_item(149, 0.05)
        self.assertEqual(times.delay, 0.05)
        # A credit that the item did not need says nothing.
        times.credit(200, 250, 160, 0.06)
        times.starved_item(199, 0.061)
        self.assertEqual(times.delay, 0.05)

    def test_a_window_is_halved_after_10_s_without_starving(self):
        self.grow()
        self.assertEqual(self.window.shrink_at, 10.0)
        self.window.shrink(9.9)
        self.assertEqual(self.window.size, 16 * KIB)
        self.window.shrink(10.0)
        self.assertEqual(self.window.size, 8 * KIB)
        granted = self.window.granted
        self.window.shrink(19.9)
        self.window.shrink(20.0)
        self.assertEqual((self.window.size, self.window.shrink_at), (4 * KIB, None))
        self.assertEqual(self.window.granted, granted)  # what was granted stays
        self.assertEqual(self.growth.left, 1 << 20)

    def test_a_starved_item_puts_off_the_shrinking(self):
        self.grow()
        self.turn(True, now=9.0)
        self.window.shrink(10.0)
        self.assertEqual((self.window.size, self.window.shrink_at), (16 * KIB, 19.0))

    def test_an_ended_stream_gives_its_growth_back(self):
        self.grow()
        self.window.end()
        self.assertEqual(self.growth.left, 1 << 20)

    def test_a_receiver_holds_what_it_granted_and_one_item_more(self):
        for seed in range(50):
            dice = random.Random(seed)
            sender = SendWindow(4 * KIB)
            receiver = ReceiveWindow(4 * KIB, 64 * KIB, Growth(1 << 20))
            queue, credits, sent, largest = [], [], 0, 3000
            for _ in range(2000):
                # Items arrive at once; credits are under way for some time.
                if dice.random() < 0.5:
                    if sender.check():
                        body = dice.randrange(largest)
                        credits.append(receiver.receive(body, sender.spend(body), 0.0))
                        queue.append(body)
                        sent += 1
                elif queue and dice.random() < 0.8:
                    credits.append(receiver.consume(queue.pop(0), lambda: 0.0))
                elif credits and (credit := credits.pop(0)) is not None:
                    sender.grant(credit)
                self.assertLess(receiver.held, 2 * receiver.size + item_cost(largest))
            for body in queue:
                credits.append(receiver.consume(body, lambda: 0.0))
            for credit in filter(None, credits):
                sender.grant(credit)
            self.assertTrue(sender.is_open, "the credit leaked")
            self.assertGreater(sent, 100)


class ScheduleTest(unittest.TestCase):
    def test_streams_share_the_connection_by_bytes(self):
        schedule = ItemSchedule()
        sizes = {1: 100, 2: 4 * KIB, 3: 50 * KIB, 4: 200 * KIB}
        for seq in sizes:
            schedule.add(seq)
        sent = dict.fromkeys(sizes, 0)
        while sum(sent.values()) < 20_000_000:
            seq = schedule.next(1 << 40, sizes.__getitem__)
            sent[seq] += sizes[seq]
        unfair = max(sent.values()) - min(sent.values())
        self.assertLessEqual(unfair, 2 * (ITEM_QUANTUM + 200 * KIB), sent)

    def test_a_stream_without_an_item_leaves_and_may_come_back(self):
        schedule = ItemSchedule()
        for seq in (1, 2, 2):
            schedule.add(seq)
        self.assertEqual(schedule.next(100, {1: None, 2: 10}.get), 2)
        self.assertEqual(len(schedule), 1)
        self.assertIsNone(schedule.next(100, {}.get))
        schedule.add(1)
        self.assertEqual(schedule.next(1 << 40, {1: 1 << 30}.get), 1)

    def test_an_item_without_room_is_the_first_of_the_next_time(self):
        schedule = ItemSchedule()
        schedule.add(1)
        schedule.add(2)
        self.assertIsNone(schedule.next(9, {1: 10, 2: 5}.get))
        self.assertEqual(schedule.next(10, {1: 10, 2: 5}.get), 1)


if __name__ == "__main__":
    unittest.main()
