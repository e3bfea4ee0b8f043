"""The history checker is itself proved: a correct history passes, and each planted violation is caught by its rule and
no other one hides it."""
import copy
import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))


def load_checker():
    loader = importlib.machinery.SourceFileLoader("check_history", os.path.join(HERE, "check-history"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("check_history", loader))
    keep, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    loader.exec_module(module)
    sys.dont_write_bytecode = keep
    return module


CHECKER = load_checker()


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


def rules_broken(directory, records, export):
    _, violations = CHECKER.check_files(write(directory, records, export))
    return violated(violations)


def violated(violations):
    return {rule for rule, found in violations.items() if found}


def test_a_correct_history_passes(tmp_path):
    assert rules_broken(tmp_path, *good_history()) == set()


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


def plant_message_applied_twice(records, export):
    append_copy(export, "m4")
    return {"ok.twice", "device.hole"}


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
    return {"export.gap", "receive.hole", "device.hole"}


def plant_seq_given_twice(records, export):
    at = export.index(find(export, room_id="r1", client_id="m3"))
    export.insert(at + 1, dict(export[at], client_id=None, message_id="r1-other"))
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


def plant_receiver_shown_other_content(records, export):
    find(records, op="receive", room="r1", connection="r1-a", client_id="m3")["content"] = "other text"
    return {"receive.differs"}


def plant_receiver_shown_another_message_at_this_seq(records, export):
    line = find(records, op="receive", room="r1", connection="r1-a", client_id="m3")
    line.update(client_id="m0", sender="ann", content="text of m0")
    return {"receive.differs"}


def plant_seq_reused_after_a_restart(records, export):
    """Receivers saw one message at a seq, the log has another."""
    event = find(export, room_id="r1", client_id="kept")
    event.update(client_id=None, content="another")
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


PLANTS = [value for name, value in sorted(globals().items()) if name.startswith("plant_")]


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__[len("plant_"):])
def test_a_planted_violation_is_caught(plant, tmp_path):
    records, export = good_history()
    expected = plant(records, export)
    assert rules_broken(tmp_path, records, export) == expected


def test_every_rule_is_proved_by_a_plant():
    proved = set()
    for plant in PLANTS:
        proved |= plant(*good_history())
    assert proved == set(CHECKER.RULES)


def run_checker(*paths):
    return subprocess.run([os.path.join(HERE, "check-history"), *paths], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)


def test_the_exit_code_and_the_lines_tell_the_verdict(tmp_path):
    records, export = good_history()
    done = run_checker(*write(tmp_path, records, export))
    assert done.returncode == 0 and "ok.lost            holds" in done.stdout
    plant_acknowledged_message_lost_at_the_tail(records, export)
    done = run_checker(*write(tmp_path, records, export))
    assert done.returncode == 1
    assert "VIOLATION ok.lost" in done.stdout and "record.jsonl:" in done.stdout and '"op": "ok"' in done.stdout


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
    files = write(tmp_path, records, cut(export, 4))
    # the second room's first events were acknowledged after that moment, and may be there all the same
    assert violated(CHECKER.check_files(files, moment)[1]) == set()
    assert run_checker("--up-to", str(moment), *files).returncode == 0
    assert {"ok.lost", "receive.lost"} <= violated(CHECKER.check_files(files)[1])


def test_an_older_state_that_lacks_what_was_acknowledged_before_is_caught(tmp_path):
    records, export = good_history()
    moment = min(line["t"] for line in records if line["op"] == "ok" and line["seq"] > 4)
    files = write(tmp_path, records, cut(export, 3))
    assert "ok.lost" in violated(CHECKER.check_files(files, moment)[1])


def test_up_to_needs_a_time_and_files():
    assert run_checker("--up-to").returncode == 2
    assert run_checker("--up-to", "soon", "file").returncode == 2
