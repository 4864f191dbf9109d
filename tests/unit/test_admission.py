"""Who may open an association: the node that AE title and address make, and why it is nobody."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.admission import Caller, NotAdmitted, Rejection, sender
from orchestrator.domain.delivery import Node
from orchestrator.domain.errors import Refused

EMERGENCY = Node("ct-emergency", "CT", "a", 104)
OUTPATIENT = Node("ct-outpatient", "CT", "b", 104)
READER = Node("reader", "READER", "c", 104, may_send=False)
HOSTS = {"a": frozenset({"10.0.0.1"}), "b": frozenset({"10.0.0.2", "fd00::2"}), "c": frozenset({"10.0.0.3"})}


def addresses(host: str) -> frozenset[str]:
    return HOSTS.get(host, frozenset())


def call(calling_ae: str, address: str, *nodes: Node) -> Node:
    return sender(nodes or (EMERGENCY, OUTPATIENT, READER), Caller(calling_ae, "TENDON", address), addresses)


def refusal(calling_ae: str, address: str, *nodes: Node) -> tuple[Rejection, str]:
    with pytest.raises(NotAdmitted) as refused:
        call(calling_ae, address, *nodes)
    return refused.value.rejection, refused.value.node


def test_two_machines_with_one_title_are_told_apart_by_their_address():
    assert call("CT", "10.0.0.1") == EMERGENCY
    assert call("CT", "10.0.0.2") == call("CT", "fd00::2") == OUTPATIENT


def test_who_is_no_sender_is_told_why():
    assert refusal("MR", "10.0.0.1") == (Rejection.UNKNOWN_CALLING_AE, "")
    assert refusal("ct", "10.0.0.1") == (Rejection.UNKNOWN_CALLING_AE, "")
    assert refusal("", "") == (Rejection.UNKNOWN_CALLING_AE, "")
    assert refusal("CT", "10.0.0.3") == (Rejection.WRONG_ADDRESS, "")
    assert refusal("READER", "10.0.0.1") == (Rejection.WRONG_ADDRESS, "")
    assert refusal("READER", "10.0.0.3") == (Rejection.MAY_NOT_SEND, "reader")
    assert refusal("CT", "10.0.0.1", replace(EMERGENCY, host="not resolvable")) == (Rejection.WRONG_ADDRESS, "")


def test_of_two_nodes_on_one_machine_the_one_that_may_send_is_meant():
    asked_only = replace(EMERGENCY, name="asked", may_send=False)
    assert call("CT", "10.0.0.1", asked_only, EMERGENCY) == EMERGENCY


def test_names_are_resolved_for_the_title_that_calls_only():
    asked = []
    sender([READER, EMERGENCY], Caller("CT", "TENDON", "10.0.0.1"), lambda host: asked.append(host) or addresses(host))
    assert asked == ["a"]


nodes = st.builds(
    Node, st.just("n"), st.sampled_from(["CT", "MR"]), st.sampled_from("abcd"), st.just(104), may_send=st.booleans()
)


@given(st.lists(nodes, max_size=5), st.sampled_from(["CT", "MR"]), st.sampled_from(["10.0.0.1", "10.0.0.2"]))
def test_nobody_is_let_in_but_a_sender_at_its_address_and_no_sender_is_kept_out(listed, title, address):
    senders = [n for n in listed if n.may_send and n.ae_title == title and address in addresses(n.host)]
    try:
        assert sender(listed, Caller(title, "TENDON", address), addresses) in senders
    except NotAdmitted:
        assert senders == []


def test_a_rejection_is_a_refusal_with_a_code_and_each_has_a_name_of_its_own():
    for rejection in Rejection:
        error = NotAdmitted(rejection)
        assert isinstance(error, Refused)
        assert error.code == rejection.value.fault.code
    assert len({rejection.value.reason for rejection in Rejection}) == len(Rejection)
    assert {r for r in Rejection if not r.value.is_permanent} == {Rejection.LIMIT_OF_PEER, Rejection.LIMIT_OF_ALL}
