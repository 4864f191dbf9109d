"""The API against what its OpenAPI description allows to be sent: no request of it is answered by a fault of ours."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.fakes.system import FakeSystem, slices
from tests.web import Web

EXAMPLES = 8
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
BOUNDS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)


@pytest.fixture
def web(database, tmp_path):
    """A study is routed, in a real database: what it cannot hold is part of the matter."""
    system = FakeSystem(tmp_path, records=database)
    system.receive_and_route(*slices())
    return Web(system)


def test_whatever_the_description_allows_is_answered_as_it_says(web):
    program = web.program("admin")
    token = {"Authorization": program.headers["Authorization"]}
    operations = [found.ok() for found in schemathesis.openapi.from_asgi(PATH, web.app).get_all_operations()]
    assert len(operations) >= 45
    for operation in operations:

        @BOUNDS
        @given(case=operation.as_strategy())
        def ask(case):
            case.validate_response(case.call(headers=token), checks=CHECKS)

        ask()


PATH = "/api/v1/openapi.json"


def test_the_description_names_both_ways_in_and_the_shape_of_problems(web):
    described = web.browser().get(PATH).json()
    assert set(described["components"]["securitySchemes"]) == {"token", "session"}
    assert described["components"]["schemas"]["Problem"]["required"] == ["type", "title", "status", "code", "detail"]
    for path, operations in described["paths"].items():
        assert path.startswith("/api/v1/")
        for operation in operations.values():
            assert operation["description"]
            schemas = [
                content["schema"]
                for answer in operation["responses"].values()
                for content in answer.get("content", {}).values()
            ]
            assert "HTTPValidationError" not in str(schemas)
    operation_ids = [operation["operationId"] for one in described["paths"].values() for operation in one.values()]
    assert len(operation_ids) == len(set(operation_ids))
