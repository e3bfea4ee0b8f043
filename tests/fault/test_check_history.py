"""The history checker is itself proved: correct histories pass, each planted violation is caught by its rule and no
other one hides it, and what only looks wrong passes."""
import copy
import json
import os
import resource
import subprocess

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("CARILLON_BUILD", os.path.join(HERE, "..", "..", "build", "release"))


def run_checker(*arguments):
    return subprocess.run([os.path.join(HERE, "check-history"), "--build", BUILD, *arguments], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, timeout=60)


def violations(*arguments):
    """How often each rule is broken, by its name."""
    done = run_checker("--json", *arguments)
    assert done.returncode in (0, 1), done.stdout
    return json.loads(done.stdout.splitlines()[0])["rules"]


def good_history():
    """Two rooms, two senders each; per room: a join event, five acknowledged messages, a kept one without an answer, a
    lost one without an answer, a refused one, and one sent again after its answer was lost. Two members receive
    everything, one of them over two connections of a named device."""
    records, export, clock = [], [], 1000
    for room in ("r1", "r2"):
        for user in ("ann", "bob"):
            records.append({"t": 1, "op": "member", "room": room, "user": user})
        log = [{"type": "user_joined", "room_id": room, "seq": 1, "user_ids": ["bob"], "created_at": created(0)}]

        def send(client_id, sender, outcome, kept, room=room, log=log):
            nonlocal clock
            name = {"room": room, "client_id": client_id, "sender": sender}
            clock += 10
            records.append({"t": clock, "op": "invoke", **name, "content": f"text of {client_id}"})
            if kept and not any(event.get("client_id") == client_id for event in log):
                seq = len(log) + 1
                log.append({"type": "message", "room_id": room, "message_id": f"{room}-{seq}", "seq": seq,
                            "sender_id": sender, "client_id": client_id, "content": f"text of {client_id}",
                            "meta": None, "created_at": created(seq)})
            clock += 10
            if outcome == "ok":
                event = next(event for event in log if event.get("client_id") == client_id)
                records.append({"t": clock, "op": "ok", **name, "seq": event["seq"], "message_id": event["message_id"]})
            elif outcome:
                code = {"code": "rate.limited"} if outcome == "fail" else {}
                records.append({"t": clock, "op": outcome, **name, **code})

        for number in range(5):
            send(f"m{number}", ("ann", "bob")[number % 2], "ok", True)
        send("kept", "ann", "unknown", True)
        send("gone", "bob", "unknown", False)
        send("refused", "bob", "fail", False)
        send("again", "ann", "unknown", True)
        send("again", "ann", "ok", True)
        for event in log:
            clock += 1
            records.append(receipt(clock, event, "ann", "a", None))
            records.append(receipt(clock, event, "bob", "b1" if event["seq"] < 4 else "b2", "phone"))
        records.append(receipt(clock + 1, log[-1], "ann", "again", None))
        export += log
    return records, export


def created(number):
    return f"2026-01-01T00:00:{number:02d}.000Z"


def receipt(t, event, user, connection, device):
    line = {"t": t, "op": "receive", "room": event["room_id"], "user": user,
            "connection": f"{event['room_id']}-{connection}", "type": event["type"], "seq": event["seq"]}
    if device:
        line["device"] = device
    for name, source in (("message_id", "message_id"), ("sender", "sender_id"), ("client_id", "client_id"),
                         ("content", "content"), ("created_at", "created_at")):
        if event.get(source):
            line[name] = event[source]
    return line


def find(lines, **members):
    return next(line for line in lines if all(line.get(name) == value for name, value in members.items()))


def write(directory, records, export):
    paths = [str(directory / "record.jsonl"), str(directory / "export.jsonl")]
    for path, lines in zip(paths, (records, export)):
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
    return paths


def rules_broken(directory, records, export, *options):
    return {rule for rule, found in violations(*options, *write(directory, records, export)).items() if found}


class Room:
    """Writes a room's log and what is recorded of it, one operation at a time."""

    def __init__(self, records, export, room, clock):
        self.records, self.export, self.room, self.clock = records, export, room, clock
        self.log = []

    def record(self, op, **members):
        self.clock += 10
        self.records.append({"t": self.clock, "op": op, **members})
        return self.clock

    def event(self, kind, **members):
        seq = len(self.log) + 1
        self.log.append({"type": kind, "room_id": self.room, "seq": seq, **members, "created_at": created(seq)})
        self.export.append(self.log[-1])
        return self.log[-1]

    def send(self, client_id, sender, epoch=1):
        name = {"room": self.room, "client_id": client_id, "sender": sender}
        self.record("invoke", **name, content=f"text of {client_id}")
        event = self.event("message", message_id=f"{self.room}-{len(self.log) + 1}", sender_id=sender,
                           client_id=client_id, content=f"text of {client_id}", meta=None)
        self.record("ok", **name, seq=event["seq"], message_id=event["message_id"], epoch=epoch)

    def shown(self, user, connection, device, *seqs, **members):
        for seq in seqs:
            self.clock += 10
            line = receipt(self.clock, self.log[seq - 1], user, connection, device)
            self.records.append({**line, "connection": connection, "epoch": 1, **members})

    def acks(self, user, device, seq):
        by = {"room": self.room, "user": user, "device": device}
        asked = self.record("ack", **by, seq=seq)
        acked = self.record("acked", **by, seq=seq, asked=asked)
        self.record("cursor", **by, seq=seq, asked=acked + 1)


def fast_room(records, export):
    """A fast room that lost its newest message with the power. Its sender, who had it, is told, and sends it again."""
    room = Room(records, export, "r4", 10**5)
    room.record("room", room="r4", durability="fast")
    room.record("member", room="r4", user="ann")
    for number in range(3):
        room.send(f"f{number}", "ann")
    room.shown("ann", "r4-a", "desk", 1, 2, 3)
    export.remove(room.log.pop())
    room.record("crash", power=True)
    room.record("resumed", room="r4", user="ann", device="desk", connection="r4-b", asked=[1, 3], epoch=2,
                recovered=False, head=2, **{"from": 3})
    room.send("f3", "ann", epoch=2)
    room.send("f2", "ann", epoch=2)
    room.shown("ann", "r4-b", "desk", 3, 4, epoch=2)


def lost_with_the_power(room, num):
    """The power fails, and takes the last events of a fast room."""
    for _ in range(num):
        room.export.remove(room.log.pop())
    room.record("crash", power=True)


def fast_room_with_a_joiner(records, export):
    """Bob joins Ann's fast room, and sees that he has."""
    room = Room(records, export, "r5", 5 * 10**5)
    room.record("room", room="r5", durability="fast")
    room.record("member", room="r5", user="ann")
    room.record("member", room="r5", user="bob")
    room.send("j0", "ann")
    room.send("j1", "ann")
    room.event("user_joined", user_ids=["bob"])
    room.shown("bob", "page-3", None, 3, path="events", asked=room.clock)
    return room


def full_history():
    """What good_history has not: a fast room; and a room in which Bob joins, leaves and comes back, with pages, acks,
    cursors, positions; notifications; and a device that gets its last event only after healing."""
    records, export = [], []
    fast_room(records, export)
    room = Room(records, export, "r3", 2 * 10**5)
    room.record("member", room="r3", user="ann")
    room.record("device", room="r3", user="ann", device="tab", after_seq=0)
    room.send("m0", "ann")
    room.record("member", room="r3", user="bob")
    room.event("user_joined", user_ids=["bob"])
    room.send("m1", "ann")
    room.send("m2", "bob")
    room.shown("bob", "r3-b1", "phone", 3, 4)
    room.acks("bob", "phone", 3)
    room.shown("bob", "page-1", None, 1, 2, 3, 4, path="events", asked=room.clock)
    room.event("user_left", user_ids=["bob"])
    room.record("left", room="r3", user="bob")
    room.shown("bob", "r3-b1", "phone", 5)
    room.send("m3", "ann")
    room.record("member", room="r3", user="bob")
    room.event("user_joined", user_ids=["bob"])
    room.record("resumed", room="r3", user="bob", device="phone", connection="r3-b2", asked=[1, 5], epoch=1,
                recovered=True, head=7, **{"from": 6})
    room.shown("bob", "r3-b2", "phone", 6, 7)
    room.shown("ann", "r3-a", "tab", 1, 2, 3, 4, 5, 6, 7)
    room.shown("ann", "page-2", None, 1, 3, 4, 6, path="messages", asked=room.clock)
    room.acks("ann", "tab", 4)
    room.acks("ann", "tab", 6)
    room.send("m4", "ann")
    room.shown("bob", "r3-b2", "phone", 8)
    for key, user in (("n1", "ann"), ("n1", "bob"), ("n2", "bob"), ("n3", "ann")):
        room.record("notify", key=key, user=user, content=f"notice {key}")
    for key in ("n1", "n3"):
        room.record("notify_ok", key=key, notification_id=f"id-{key}")
    room.record("notified", user="ann", connection="r3-a", notification_id="id-n1", content="notice n1")
    room.record("notified", user="bob", connection="r3-b2", notification_id="id-n2", content="notice n2")
    room.record("dead_letter", user="ann", notification_id="id-n3")
    room.record("healed", within_ns=100)
    room.shown("ann", "r3-a", "tab", 8)
    room.record("notified", user="bob", connection="r3-b2", notification_id="id-n1", content="notice n1")
    return records, export


def on_full_history(change):
    change.history = full_history
    return change


def history_of(change):
    return getattr(change, "history", good_history)()


def test_a_correct_history_passes(tmp_path):
    assert rules_broken(tmp_path, *good_history()) == set()
    assert rules_broken(tmp_path, *full_history()) == set()


# Each plant changes a good history in place; the rules named are exactly those that must be broken by it.


def drop_from_log(records, export, client_id):
    """A message vanishes and the rest moves up, as if it had never been: seq, ids and receipts stay consistent."""
    gone = find(export, room_id="r1", client_id=client_id)
    export.remove(gone)
    for event in export:
        if event["room_id"] == "r1" and event["seq"] > gone["seq"]:
            event["seq"] -= 1


def plant_acknowledged_message_lost_at_the_tail(records, export):
    gone = find(export, room_id="r1", client_id="again")
    export.remove(gone)
    records[:] = [r for r in records if not (r["op"] == "receive" and r["room"] == "r1" and r["seq"] == gone["seq"])]
    return {"ok.lost"}


def plant_seen_message_lost_at_the_tail(records, export):
    export.remove(find(export, room_id="r1", client_id="again"))
    return {"ok.lost", "receive.lost"}


def plant_lost_message_with_later_ones_renumbered(records, export):
    drop_from_log(records, export, "m1")
    return {"ok.lost", "ok.answer", "receive.differs", "receive.lost"}


def append_copy(export, client_id, sender=None):
    original = find(export, room_id="r1", client_id=client_id)
    seq = max(event["seq"] for event in export if event["room_id"] == "r1") + 1
    double = dict(original, seq=seq, message_id=f"r1-{seq}", created_at=created(seq))
    export.append(double)
    return double


def sent_twice(records, export):
    """m4 is sent again when much time has passed, and is appended and shown a second time."""
    first = find(records, op="ok", room="r1", client_id="m4")
    invoke = find(records, op="invoke", room="r1", client_id="m4")
    double = append_copy(export, "m4")
    records.append({"t": 10**6, "op": "forgotten"})
    records.append(dict(invoke, t=10**6 + 1))
    records.append(dict(first, t=10**6 + 2, seq=double["seq"], message_id=double["message_id"]))
    for user, connection, device in (("ann", "a", None), ("bob", "b2", "phone")):
        records.append(receipt(10**6 + 3, double, user, connection, device))


def plant_message_applied_twice(records, export):
    append_copy(export, "m4")
    return {"ok.twice", "device.hole"}


def plant_message_applied_twice_though_its_id_was_forgotten_later(records, export):
    append_copy(export, "m4")
    records.append({"t": 10**6, "op": "forgotten"})
    return {"ok.twice", "device.hole"}


def plant_message_applied_more_often_than_its_id_was_forgotten(records, export):
    sent_twice(records, export)
    append_copy(export, "m4")
    return {"ok.twice", "device.hole"}


def plant_answer_that_tells_of_neither_of_two_messages_of_one_id(records, export):
    sent_twice(records, export)
    records[-3]["seq"] += 1
    return {"ok.answer"}


def plant_open_message_applied_twice(records, export):
    append_copy(export, "kept")
    return {"unknown.twice", "device.hole"}


def plant_refused_message_kept(records, export):
    double = append_copy(export, "m4")
    double.update(client_id="refused", sender_id="bob", content="text of refused")
    return {"fail.present", "device.hole"}


def plant_message_that_nobody_sent(records, export):
    append_copy(export, "m4")["client_id"] = "ghost"
    return {"export.invented", "device.hole"}


def plant_message_without_a_client_id_that_nobody_sent(records, export):
    append_copy(export, "m4")["client_id"] = None
    return {"export.invented", "device.hole"}


def plant_wrong_seq_in_the_answer(records, export):
    find(records, op="ok", room="r1", client_id="m2")["seq"] += 1
    return {"ok.answer"}


def plant_wrong_message_id_in_the_answer(records, export):
    find(records, op="ok", room="r1", client_id="m2")["message_id"] = "r1-99"
    return {"ok.answer"}


def plant_second_answer_with_another_seq(records, export):
    first = find(records, op="ok", room="r1", client_id="again")
    records.append(dict(first, seq=first["seq"] + 1))
    return {"ok.answer"}


def plant_gap_in_the_log(records, export):
    for event in export:
        if event["room_id"] == "r1" and event["seq"] == 8:
            event["seq"] = 9
    for line in records:
        if line.get("room") == "r1" and line.get("seq") == 8:
            line["seq"] = 9
    return {"export.gap", "receive.hole"}


def plant_seq_given_twice(records, export):
    at = export.index(find(export, room_id="r1", client_id="m3"))
    export.insert(at + 1, dict(export[at], type="reaction", client_id=None, message_id=None))
    return {"export.gap"}


def plant_time_that_goes_backwards(records, export):
    event = find(export, room_id="r1", client_id="m3")
    event["created_at"] = created(0)
    for line in records:
        if line.get("op") == "receive" and line["room"] == "r1" and line["seq"] == event["seq"]:
            line["created_at"] = created(0)
    return {"export.time"}


def plant_content_changed_in_the_store(records, export):
    find(export, room_id="r1", client_id="m3")["content"] = "other text"
    return {"content", "receive.differs"}


def plant_acknowledged_before_another_was_sent_and_behind_it(records, export):
    """m1 and m2 change places everywhere, though m1 was acknowledged before m2 was sent."""
    first, second = find(export, room_id="r1", client_id="m1"), find(export, room_id="r1", client_id="m2")
    swapped = {first["seq"]: second["seq"], second["seq"]: first["seq"]}
    for event in (first, second):
        event["client_id"], event["sender_id"], event["content"] = (
            {"m1": ("m2", "ann", "text of m2"), "m2": ("m1", "bob", "text of m1")}[event["client_id"]])
    by_seq = {event["seq"]: event for event in (first, second)}
    for line in records:
        if line.get("room") != "r1":
            continue
        if line["op"] == "ok" and line["seq"] in swapped:
            line["seq"] = swapped[line["seq"]]
            line["message_id"] = by_seq[line["seq"]]["message_id"]
        if line["op"] == "receive" and line["seq"] in swapped:
            event = by_seq[line["seq"]]
            line.update(client_id=event["client_id"], sender=event["sender_id"], content=event["content"])
    return {"order"}


def plant_seen_by_a_receiver_before_an_earlier_one_was_sent(records, export):
    """An open message stands before one that was received before it was even sent."""
    kept = find(export, room_id="r1", client_id="kept")
    find(records, op="invoke", room="r1", client_id="kept")["t"] = 900000
    find(records, op="unknown", room="r1", client_id="kept")["t"] = 900001
    for line in records:
        if line["op"] == "receive" and line["room"] == "r1" and line["seq"] >= kept["seq"] and line["seq"] != 8:
            line["t"] = 900002
    return {"order"}


@on_full_history
def plant_seen_join_before_an_earlier_message_was_sent_in_a_fast_room(records, export):
    """j1 was sent when the join behind it had been seen. The power took neither: j2, which it left, is behind both."""
    room = fast_room_with_a_joiner(records, export)
    for number, op in enumerate(("invoke", "ok")):
        find(records, op=op, client_id="j1")["t"] = room.clock + 1 + number
    room.send("j2", "ann")
    room.send("j3", "ann")
    lost_with_the_power(room, 1)
    return {"order"}


def plant_receiver_shown_other_content(records, export):
    find(records, op="receive", room="r1", connection="r1-a", client_id="m3")["content"] = "other text"
    return {"receive.differs"}


def plant_receiver_shown_another_message_at_this_seq(records, export):
    line = find(records, op="receive", room="r1", connection="r1-a", client_id="m3")
    line.update(client_id="m0", sender="ann", content="text of m0")
    return {"receive.differs"}


def plant_seq_reused_after_a_restart(records, export):
    """Receivers saw one message at a seq, the log has another."""
    find(export, room_id="r1", client_id="kept").update(type="room.updated", client_id=None, content="another")
    return {"receive.differs"}


def plant_receiver_out_of_order(records, export):
    lines = [line for line in records if line["op"] == "receive" and line["connection"] == "r1-a"]
    here, there = records.index(lines[2]), records.index(lines[3])
    records[here], records[there] = records[there], records[here]
    return {"receive.order", "receive.hole"}


def plant_receiver_shown_a_message_twice(records, export):
    line = find(records, op="receive", room="r1", connection="r1-a", client_id="m3")
    records.insert(records.index(line) + 1, copy.copy(line))
    return {"receive.order"}


def plant_receiver_with_a_hole(records, export):
    records.remove(find(records, op="receive", room="r1", connection="r1-a", client_id="m3"))
    return {"receive.hole"}


def plant_device_that_missed_the_catch_up(records, export):
    """The hole lies between two connections of the device, where no single connection shows it."""
    records.remove(find(records, op="receive", room="r1", connection="r1-b1", seq=3))
    return {"device.hole"}


def plant_device_that_missed_the_tail(records, export):
    records.remove(find(records, op="receive", room="r1", connection="r1-b2", seq=8))
    return {"device.hole"}


def plant_stranger_who_received(records, export):
    event = find(export, room_id="r1", client_id="m3")
    records.append(receipt(99999, event, "eve", "e", None))
    return {"receive.stranger"}


def plant_member_of_another_room_only(records, export):
    records.remove(find(records, op="member", room="r1", user="ann"))
    return {"receive.stranger"}


def plant_received_before_joining(records, export):
    find(records, op="member", room="r1", user="ann")["t"] = 10**9
    return {"receive.stranger"}


def plant_received_after_being_removed(records, export):
    find(records, op="member", room="r1", user="ann")["until_seq"] = 6
    return {"receive.stranger"}


def plant_page_with_an_event_that_came_after_being_removed(records, export):
    """A page is bounded by the member's last event as a push is."""
    find(records, op="member", room="r1", user="ann")["until_seq"] = 6
    for line in records:
        if line["op"] == "receive" and line["room"] == "r1" and line["user"] == "ann":
            line.update(path="events", asked=line["t"] - 1)
    return {"receive.stranger"}


def plant_push_after_leaving_of_what_came_after_being_removed(records, export):
    """That a removal was acknowledged later does not lift the bound."""
    find(records, op="member", room="r1", user="ann")["until_seq"] = 6
    records.append({"t": 10**6, "op": "left", "room": "r1", "user": "ann"})
    return {"receive.stranger"}


# On the full history:


@on_full_history
def plant_seen_before_it_was_sent(records, export):
    sent = find(records, op="invoke", client_id="m2")
    find(records, op="receive", connection="r3-b1", seq=4)["t"] = sent["t"] - 1
    return {"receive.early"}


@on_full_history
def plant_pushed_after_leaving(records, export):
    event = find(export, room_id="r3", client_id="m3")
    at = records.index(find(records, op="receive", connection="r3-b1", seq=5))
    line = receipt(find(records, op="ok", client_id="m3")["t"], event, "bob", "", "phone")
    records.insert(at + 1, dict(line, connection="r3-b1"))
    return {"receive.stranger"}


@on_full_history
def plant_page_that_was_asked_for_after_leaving(records, export):
    left = find(records, op="left", user="bob")["t"]
    for line in records:
        if line.get("connection") == "page-1":
            line.update(asked=left + 1, t=left + 2)
    return {"receive.stranger"}


@on_full_history
def plant_removed_for_good_and_still_pushed(records, export):
    """Bob does not come back, neither in the log nor in the records."""
    records.remove([line for line in records if line["op"] == "member" and line["user"] == "bob"][1])
    find(export, room_id="r3", seq=7)["user_ids"] = ["cleo"]
    return {"receive.stranger"}


@on_full_history
def plant_hole_in_a_page_of_messages(records, export):
    records.remove(find(records, op="receive", connection="page-2", seq=4))
    return {"receive.hole"}


@on_full_history
def plant_hole_in_a_page_of_events(records, export):
    records.remove(find(records, op="receive", connection="page-1", seq=2))
    return {"receive.hole"}


@on_full_history
def plant_page_in_the_wrong_order(records, export):
    lines = [line for line in records if line.get("connection") == "page-2"]
    here, there = records.index(lines[2]), records.index(lines[3])
    records[here], records[there] = records[there], records[here]
    return {"receive.order", "receive.hole"}


@on_full_history
def plant_page_that_shows_another_content(records, export):
    find(records, op="receive", connection="page-2", seq=4)["content"] = "other text"
    return {"receive.differs"}


@on_full_history
def plant_replay_that_begins_too_late(records, export):
    records.remove(find(records, op="receive", connection="r3-b2", seq=6))
    find(records, op="resumed", room="r3")["from"] = 7
    return {"resume.position"}


@on_full_history
def plant_replay_that_leaves_out_its_first(records, export):
    records.remove(find(records, op="receive", connection="r3-b2", seq=6))
    return {"receive.hole"}


@on_full_history
def plant_position_not_recovered_though_nothing_was_lost(records, export):
    find(records, op="resumed", room="r3")["recovered"] = False
    find(records, op="room", room="r4")["durability"] = "fast"
    return {"resume.position"}


def resumed_in_vain(records, after, **members):
    """Ann is told right behind `after` that what she holds of the fast room is lost."""
    records.append({"op": "resumed", "t": after["t"] + 1, "room": "r4", "user": "ann", "device": "desk",
                    "connection": "r4-vain", "recovered": False, **members})


@on_full_history
def plant_position_not_recovered_before_the_power_first_failed(records, export):
    """A killed process begins a new epoch too, and loses nothing."""
    resumed_in_vain(records, find(records, op="receive", connection="r4-a", seq=2), asked=[1, 2], epoch=2, head=2,
                    **{"from": 2})
    return {"resume.position"}


@on_full_history
def plant_position_of_the_epoch_that_runs_not_recovered(records, export):
    resumed_in_vain(records, find(records, op="receive", connection="r4-b", seq=4), asked=[2, 4], epoch=2, head=4,
                    **{"from": 4})
    return {"resume.position"}


@on_full_history
def plant_lost_tail_that_nobody_is_told_of(records, export):
    """The device goes on behind an event that the power loss took, and never gets what took its place."""
    find(records, op="resumed", room="r4").update({"recovered": True, "from": 4, "head": 4})
    records.remove(find(records, op="receive", connection="r4-b", seq=3))
    return {"resume.position", "device.hole", "healed.missing"}


@on_full_history
def plant_fast_room_that_loses_an_event_and_keeps_a_later_one(records, export):
    """After the power loss, f1 is gone, and f2 is still where it was seen."""
    crash, seen = find(records, op="crash")["t"], find(records, op="receive", connection="r4-a", seq=3)
    records[:] = [line for line in records if line.get("room") != "r4" or line["t"] < crash]
    find(export, room_id="r4", client_id="f1").update(type="reaction", client_id=None, content="something else")
    export.remove(find(export, room_id="r4", client_id="f2"))
    kept = {name: seen[name] for name in ("message_id", "content", "client_id", "created_at")}
    find(export, room_id="r4", client_id="f3").update(kept)
    return {"fast.tail", "device.hole"}


@on_full_history
def plant_lost_in_a_fast_room_without_a_power_loss(records, export):
    find(records, op="crash")["power"] = False
    return {"ok.answer", "receive.differs", "resume.position"}


@on_full_history
def plant_two_events_at_one_epoch_and_seq(records, export):
    """f3 took the seq of f2 in the very epoch in which f2 was seen there."""
    find(records, op="receive", connection="r4-b", seq=3)["epoch"] = 1
    return {"epoch.reused"}


@on_full_history
def plant_cursor_that_moves_back(records, export):
    [line for line in records if line["op"] == "cursor" and line["user"] == "ann"][1]["seq"] = 3
    return {"cursor.back"}


@on_full_history
def plant_acknowledged_cursor_that_a_killed_process_takes_back(records, export):
    cursor = [line for line in records if line["op"] == "cursor" and line["user"] == "ann"][1]
    cursor["seq"] = 4
    records.append({"t": cursor["t"] - 1, "op": "crash", "power": False})
    return {"cursor.back"}


@on_full_history
def plant_cursor_that_moves_by_itself(records, export):
    find(records, op="cursor", user="bob")["seq"] = 8
    return {"cursor.unasked"}


@on_full_history
def plant_event_that_arrives_too_late_after_healing(records, export):
    find(records, op="receive", connection="r3-a", seq=8)["t"] += 10**4
    return {"healed.missing"}


@on_full_history
def plant_event_that_never_reaches_a_device(records, export):
    records.remove(find(records, op="receive", connection="r3-a", seq=8))
    return {"healed.missing", "device.hole"}


@on_full_history
def plant_device_that_never_gets_anything(records, export):
    records.insert(0, {"t": 1, "op": "device", "room": "r3", "user": "ann", "device": "mute", "after_seq": 3})
    return {"healed.missing", "device.hole"}


@on_full_history
def plant_notification_that_never_arrives(records, export):
    records.remove(find(records, op="notified", user="bob", notification_id="id-n1"))
    return {"notify.lost"}


@on_full_history
def plant_notification_that_arrives_too_late(records, export):
    find(records, op="notified", user="bob", notification_id="id-n1")["t"] += 10**4
    return {"notify.lost"}


@on_full_history
def plant_notification_that_expired_without_a_dead_letter(records, export):
    records.remove(find(records, op="dead_letter"))
    return {"notify.lost"}


def second_id(records, key, notification_id):
    """The key, asked for again, is acknowledged with another id."""
    answer = find(records, op="notify_ok", key=key)
    records.append(dict(answer, t=answer["t"] + 1, notification_id=notification_id))


@on_full_history
def plant_two_notifications_for_one_key(records, export):
    second_id(records, "n1", "id-n1-again")
    for user in ("ann", "bob"):
        records.append(dict(find(records, op="notified", user=user, notification_id="id-n1"),
                            notification_id="id-n1-again"))
    return {"notify.twice"}


@on_full_history
def plant_second_notification_for_one_key_that_never_arrives(records, export):
    """Whichever of the two ids comes first by name or by time."""
    second_id(records, "n1", "id-n0")
    return {"notify.twice", "notify.lost"}


@on_full_history
def plant_notification_for_another_user(records, export):
    records.append(dict(find(records, op="notified", user="ann"), user="bob", notification_id="id-n3"))
    return {"notify.stranger"}


@on_full_history
def plant_notification_with_another_content(records, export):
    find(records, op="notified", user="ann")["content"] = "notice n3"
    return {"notify.differs"}


@on_full_history
def plant_notification_that_nobody_asked_for(records, export):
    records.append(dict(find(records, op="notified", user="ann"), notification_id="id-ghost"))
    return {"notify.differs"}


PLANTS = [value for name, value in sorted(globals().items()) if name.startswith("plant_")]


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__[len("plant_"):])
def test_a_planted_violation_is_caught(plant, tmp_path):
    records, export = history_of(plant)
    expected = plant(records, export)
    assert rules_broken(tmp_path, records, export) == expected


def test_every_rule_is_proved_by_a_plant(tmp_path):
    proved = set()
    for plant in PLANTS:
        proved |= plant(*history_of(plant))
    assert proved == set(violations(*write(tmp_path, *good_history())))


# Each near miss looks wrong and is legal.


@on_full_history
def near_miss_shown_long_after_leaving_what_was_meant_before(records, export):
    again = [line for line in records if line["op"] == "member" and line["user"] == "bob"][1]
    find(records, op="receive", connection="r3-b1", seq=5)["t"] = again["t"] - 1


@on_full_history
def near_miss_page_that_was_asked_for_before_leaving_and_came_after(records, export):
    left = find(records, op="left")
    for line in records:
        if line.get("connection") == "page-1":
            line["t"] = left["t"] + 5


@on_full_history
def near_miss_two_messages_under_way_at_once_in_either_order(records, export):
    """m1 is sent while m2 is under way, and stands before it."""
    find(records, op="invoke", client_id="m2")["t"] = find(records, op="invoke", client_id="m1")["t"] - 1


@on_full_history
def near_miss_acknowledged_at_the_moment_at_which_a_later_one_was_sent(records, export):
    """At the same moment nothing is before anything."""
    second = find(records, op="invoke", client_id="m2")
    second["t"] = find(records, op="ok", client_id="m1")["t"]


@on_full_history
def near_miss_cursor_that_a_power_loss_takes_back(records, export):
    cursor = [line for line in records if line["op"] == "cursor" and line["user"] == "ann"][1]
    cursor["seq"] = 3
    records.append({"t": cursor["t"] - 1, "op": "crash", "power": True})


@on_full_history
def near_miss_cursor_that_was_only_shown_and_a_killed_process_takes_back(records, export):
    """Ann's second ack moved the cursor and was never answered."""
    records.remove([line for line in records if line["op"] == "acked" and line["user"] == "ann"][1])
    cursor = [line for line in records if line["op"] == "cursor" and line["user"] == "ann"][1]
    records.append({"t": cursor["t"] + 1, "op": "crash", "power": False})
    records.append(dict(cursor, t=cursor["t"] + 3, asked=cursor["t"] + 2, seq=4))


@on_full_history
def near_miss_cursor_that_was_asked_for_before_the_ack_was_answered(records, export):
    acked = [line for line in records if line["op"] == "acked" and line["user"] == "ann"][1]
    cursor = [line for line in records if line["op"] == "cursor" and line["user"] == "ann"][1]
    cursor.update(seq=4, asked=acked["t"])


@on_full_history
def near_miss_ack_without_an_answer_that_moved_the_cursor(records, export):
    records.remove([line for line in records if line["op"] == "acked" and line["user"] == "ann"][1])


@on_full_history
def near_miss_event_that_became_a_dead_letter(records, export):
    line = find(records, op="receive", connection="r3-a", seq=8)
    records.remove(line)
    records.append({"t": line["t"], "op": "dead_letter", "room": "r3", "user": "ann", "device": "tab", "seq": 8})


@on_full_history
def near_miss_device_of_somebody_who_left_and_missed_the_end(records, export):
    records.remove(find(records, op="receive", connection="r3-b1", seq=5))


@on_full_history
def near_miss_notification_delivered_twice(records, export):
    records.append(find(records, op="notified", user="ann"))


@on_full_history
def near_miss_notification_asked_for_again_and_acknowledged_again(records, export):
    for line in [line for line in records if line["op"] in ("notify", "notify_ok") and line["key"] == "n1"]:
        records.append(dict(line, t=line["t"] + 1))


@on_full_history
def near_miss_refused_message_sent_again_with_success(records, export):
    ok = find(records, op="ok", client_id="m2")
    records.append({"t": ok["t"] - 5, "op": "fail", "room": "r3", "client_id": "m2", "sender": "bob", "code": "busy"})


@on_full_history
def near_miss_lost_for_good_with_the_power(records, export):
    """f2 is not sent again."""
    crash = find(records, op="crash")["t"]
    records[:] = [line for line in records if line["t"] < crash or line.get("room") != "r4" or
                  line.get("client_id") != "f2"]
    export.remove(find(export, room_id="r4", client_id="f2"))


@on_full_history
def near_miss_lost_with_the_power_and_sent_again_at_its_old_seq(records, export):
    """w1 and w2 are lost; a new message takes the seq of w1, so w2 gets its own seq and id back."""
    room = Room(records, export, "r5", 5 * 10**5)
    room.record("room", room="r5", durability="fast")
    room.record("member", room="r5", user="ann")
    for number in range(3):
        room.send(f"w{number}", "ann")
    room.shown("ann", "r5-a", "desk", 1, 2, 3)
    for _ in range(2):
        export.remove(room.log.pop())
    room.record("crash", power=True)
    room.record("resumed", room="r5", user="ann", device="desk", connection="r5-b", asked=[1, 3], epoch=2,
                recovered=False, head=1, **{"from": 2})
    room.send("new", "ann", epoch=2)
    room.send("w2", "ann", epoch=2)
    room.shown("ann", "r5-b", "desk", 2, 3, epoch=2)


@on_full_history
def near_miss_fast_room_that_loses_all_of_its_messages(records, export):
    """The room itself is made with fsync, but its making is no event of its log: an empty log is all that is left."""
    crash = find(records, op="crash")["t"]
    records[:] = [line for line in records if line["t"] < crash or line.get("room") != "r4"]
    export[:] = [event for event in export if event["room_id"] != "r4"]


def near_miss_page_within_the_bound_of_a_removed_member(records, export):
    """All that Ann sees of r1 behind seq 6 is gone from the record, and the rest comes by a page."""
    find(records, op="member", room="r1", user="ann")["until_seq"] = 6
    for line in [line for line in records if line["op"] == "receive" and (line["room"], line["user"]) == ("r1", "ann")]:
        line.update(path="events", asked=line["t"] - 1)
        if line["seq"] > 6:
            records.remove(line)


def near_miss_message_without_a_client_id_in_a_room_that_is_not_recorded(records, export):
    """A test may write its own messages into rooms of which it records no sends."""
    export.append({"type": "message", "room_id": "other", "message_id": "o-1", "seq": 1, "sender_id": "ann",
                   "content": "text", "created_at": created(1)})


def near_miss_message_sent_again_after_its_id_was_forgotten(records, export):
    sent_twice(records, export)


def near_miss_another_message_under_an_id_that_was_forgotten(records, export):
    sent_twice(records, export)
    for line in records + export:
        if line.get("client_id") == "m4" and line.get("content") and line.get("t", 0) > 10**6:
            line["content"] = "another text"
    export[-1]["content"] = "another text"


@on_full_history
def near_miss_notification_made_again_after_its_key_was_forgotten(records, export):
    healed = records.index(find(records, op="healed"))
    records.insert(healed, {"t": records[healed]["t"] - 3, "op": "forgotten"})
    answer = find(records, op="notify_ok", key="n3")
    records.append(dict(answer, t=records[healed]["t"] - 2, notification_id="id-n3-again"))
    records.append(dict(find(records, op="dead_letter"), notification_id="id-n3-again"))


@on_full_history
def near_miss_lost_with_the_power_and_back_at_the_same_seq(records, export):
    """f1 and f2 are lost; f2 is sent again, and behind f3 it stands where it stood, and when."""
    crash = find(records, op="crash")["t"]
    room = Room(records, export, "r5", crash - 1000)
    room.record("room", room="r5", durability="fast")
    room.record("member", room="r5", user="ann")
    for number in range(3):
        room.send(f"f{number}", "ann")
    room.shown("ann", "r5-a", "desk", 1, 2, 3)
    for _ in range(2):
        export.remove(room.log.pop())
    room.clock = crash + 1000
    room.record("resumed", room="r5", user="ann", device="desk", connection="r5-b", asked=[1, 3], epoch=2,
                recovered=False, head=1, **{"from": 2})
    room.send("f3", "ann", epoch=2)
    room.send("f2", "ann", epoch=2)
    room.shown("ann", "r5-b", "desk", 2, 3, epoch=2)


@on_full_history
def near_miss_join_lost_with_the_power_and_back_at_the_same_seq(records, export):
    """j1 and Bob's joining are lost; behind another message he joins again, where he had, and in the same millisecond:
    the clock stands behind the log."""
    room = fast_room_with_a_joiner(records, export)
    lost_with_the_power(room, 2)
    room.send("new", "ann", epoch=2)
    room.event("user_joined", user_ids=["bob"])


NEAR_MISSES = [value for name, value in sorted(globals().items()) if name.startswith("near_miss_")]


@pytest.mark.parametrize("change", NEAR_MISSES, ids=lambda change: change.__name__[len("near_miss_"):])
def test_a_near_miss_passes(change, tmp_path):
    records, export = history_of(change)
    before = copy.deepcopy((records, export))
    change(records, export)
    assert (records, export) != before
    assert rules_broken(tmp_path, records, export) == set()


@pytest.mark.parametrize("history", [good_history, full_history])
def test_the_order_of_files_and_of_lines_of_different_connections_is_of_no_matter(history, tmp_path):
    records, export = history()
    assert rules_broken(tmp_path, export, records) == set()
    records.sort(key=lambda line: str(line.get("connection")))  # stable: arrivals keep their order
    export.sort(key=lambda event: event["room_id"], reverse=True)
    assert rules_broken(tmp_path, records, export) == set()


@pytest.mark.parametrize("history", [good_history, full_history])
def test_each_acknowledged_message_is_missed(history, tmp_path):
    records, export = history()
    acknowledged = {(line["room"], line["client_id"]) for line in records if line["op"] == "ok"}
    rows = [at for at, event in enumerate(export) if (event["room_id"], event.get("client_id")) in acknowledged]
    assert len(rows) > 7
    for at in rows:
        # what a fast room may have lost is missed only by what it kept behind it
        missed = {"ok.lost", "fast.tail", "export.gap"} if export[at]["room_id"] == "r4" else {"ok.lost"}
        assert missed & rules_broken(tmp_path, records, export[:at] + export[at + 1:])


def judged_in(directory, stays):
    """CPU seconds for a user who was shown an event in each of so many stays."""
    room = Room([], [], "r1", 1000)
    room.record("member", room="r1", user="ann")
    room.send("m0", "ann")
    for number in range(stays):
        room.record("member", room="r1", user="bob")
        room.shown("bob", f"r1-b{number}", None, 1)
        room.record("left", room="r1", user="bob")
    paths = write(directory, room.records, room.export)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    assert not any(violations(*paths).values())
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def test_a_user_with_very_many_stays_takes_no_square_of_the_time(tmp_path):
    """Four times as many take 4 times as long; when each receipt looked at every stay, they took 12 times as long."""
    assert judged_in(tmp_path, 100_000) < 8 * judged_in(tmp_path, 25_000)


@pytest.mark.parametrize("line, why", [
    ("{", "no JSON object"), ("[]", "no JSON object"), ("\u00ff\u0000", "no JSON object"), ("", "no JSON object"),
    ('{"op":"receives","t":1}', "no such op"), ('{"op":7,"t":1}', "no such op"),
    ('{"op":"member","room":"r","user":"u"}', '"t" is missing'),
    ('{"op":"member","t":1,"room":"r"}', '"user" is missing'),
    ('{"op":"member","t":1,"room":7,"user":"u"}', '"room" is no text'),
    ('{"op":"member","t":-1,"room":"r","user":"u"}', '"t" is no integer'),
    ('{"op":"member","t":99999999999999999999,"room":"r","user":"u"}', "no JSON object"),
    ('{"op":"ok","t":1,"room":"r","sender":"u","client_id":"c","seq":0,"message_id":"m"}', '"seq" is 0'),
    ('{"op":"crash","t":1,"power":"yes"}', '"power" is neither'),
    ('{"op":"receive","t":1,"room":"r","user":"u","connection":"c","type":"message","seq":1,"path":"x"}', '"path" is'),
    ('{"room_id":"r","type":"message"}', '"seq" is missing'),
    ('{"op":"member","op":"left","t":1,"room":"r","user":"u"}', "duplicate"),
])
def test_a_line_that_is_no_record_is_refused_with_its_place(line, why, tmp_path):
    records, export = good_history()
    files = write(tmp_path, records[:3], export)
    with open(files[0], "a", encoding="utf-8") as file:
        file.write(line + "\n")
    done = run_checker(*files)
    assert done.returncode == 2 and f"{files[0]}:4: " in done.stdout and why in done.stdout, done.stdout


def test_a_file_that_is_not_there_is_named(tmp_path):
    done = run_checker(str(tmp_path / "nowhere"))
    assert done.returncode == 2 and "nowhere: No such file or directory" in done.stdout


def test_a_build_without_the_checker_is_told_apart(tmp_path):
    done = subprocess.run([os.path.join(HERE, "check-history"), "--build", str(tmp_path), "x"], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 2 and "is not built" in done.stdout


def test_the_exit_code_and_the_lines_tell_the_verdict(tmp_path):
    records, export = good_history()
    done = run_checker(*write(tmp_path, records, export))
    assert done.returncode == 0 and "ok.lost            holds" in done.stdout
    plant_acknowledged_message_lost_at_the_tail(records, export)
    done = run_checker(*write(tmp_path, records, export))
    assert done.returncode == 1
    assert "VIOLATION ok.lost" in done.stdout and "record.jsonl:" in done.stdout and '"op":"ok"' in done.stdout


def test_an_empty_history_proves_nothing(tmp_path):
    assert run_checker(*write(tmp_path, [], [])).returncode == 1


def test_an_interrupted_invoke_counts_as_open(tmp_path):
    records, export = good_history()
    records.append({"t": 10**6, "op": "invoke", "room": "r1", "client_id": "cut", "sender": "ann", "content": "cut"})
    assert rules_broken(tmp_path, records, export) == set()


def cut(export, seqs):
    """The export of an older state: each room's first `seqs` events."""
    return [event for event in export if event["seq"] <= seqs]


def test_an_older_state_holds_everything_acknowledged_or_received_before(tmp_path):
    records, export = good_history()
    moment = min(line["t"] for line in records if line["op"] == "ok" and line["seq"] > 4)
    older = cut(export, 4)
    # the second room's first events were acknowledged after that moment, and may be there all the same
    assert rules_broken(tmp_path, records, older, "--up-to", str(moment)) == set()
    assert run_checker("--up-to", str(moment), *write(tmp_path, records, older)).returncode == 0
    assert {"ok.lost", "receive.lost"} <= rules_broken(tmp_path, records, older)


def test_an_older_state_that_lacks_what_was_acknowledged_before_is_caught(tmp_path):
    records, export = good_history()
    moment = min(line["t"] for line in records if line["op"] == "ok" and line["seq"] > 4)
    assert "ok.lost" in rules_broken(tmp_path, records, cut(export, 3), "--up-to", str(moment))


def test_up_to_needs_a_time_and_files():
    assert run_checker("--up-to").returncode == 2
    assert run_checker("--up-to", "soon", "file").returncode == 2
