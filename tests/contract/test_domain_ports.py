"""Our ROS domains are taken by the ports of domain_coordinator, so that neither takes what the other has."""

from __future__ import annotations

import pytest

from pasr_perception.cli.domain import DOMAINS, PORT_BASE

pytestmark = pytest.mark.ros


def test_ports_and_domains_are_domain_coordinators():
    impl = pytest.importorskip("domain_coordinator.impl")
    selector = impl.default_selector()
    assert impl.PORT_BASE == PORT_BASE
    assert {selector() for _ in range(3 * DOMAINS)} == set(range(1, DOMAINS + 1))
