"""Helm in a process of its own: its Go runtime stays out of the tests. One JSON request a line, one answer a line."""

from __future__ import annotations

import json
import sys
from typing import Any

import helm_python


def answer(chart: helm_python.Chart, request: dict[str, Any]) -> dict[str, Any]:
    """The rendered files, the findings of `helm lint`, or the sentence of a refusal."""
    try:
        if "lint" in request:
            return helm_python.lint(request["lint"], request["values"], strict=True, kube_version=request["version"])
        return {"files": chart.render(request["values"], name=request["release"], namespace=request["namespace"])}
    except (helm_python.HelmRenderError, helm_python.HelmValuesError) as error:
        return {"refused": str(error)}


def main() -> None:
    """Serve the chart of the command line until standard input ends."""
    with helm_python.Chart.load(sys.argv[1]) as chart:
        for line in sys.stdin:
            sys.stdout.write(json.dumps(answer(chart, json.loads(line))) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
