"""docs/alerts.yml before the real promtool: what each rule fires on, and what it does not."""

import re
from pathlib import Path

from edge.metrics.collector import encode_metrics
from tests.support.prometheus import ROOT, RULES, promtool
from tests.support.statuses import status

CASES = Path("tests") / "fixtures" / "alerts_test.yml"
TEXT = (ROOT / CASES).read_text(encoding="utf-8")
SERIES = re.compile(r"""series: '(\w+){([^}]*)}'""")
FREE = {"instance", "job", "worker"}


def test_prometheus_takes_the_rules() -> None:
    assert "SUCCESS" in promtool("check", "rules", RULES)


def test_rules_fire_on_what_they_are_for_and_on_nothing_else() -> None:
    assert "SUCCESS" in promtool("test", "rules", ROOT / CASES)


def test_every_rule_is_seen_to_fire_and_to_be_quiet() -> None:
    rules = re.findall(r"- alert: (\w+)", RULES.read_text(encoding="utf-8"))
    fire = re.findall(r"alertname: (\w+)\n +exp_alerts:", TEXT)
    quiet = re.findall(r"alertname: (\w+)}", TEXT)
    assert sorted(fire) == sorted(rules)
    assert set(quiet) == set(rules)


def test_rules_are_tried_on_series_that_there_are() -> None:
    scrape = encode_metrics(status()).decode()
    found = SERIES.findall(TEXT)
    assert len(found) == TEXT.count("series: '")
    for name, labels in found:
        if name == "up":
            continue
        fixed = [each for each in labels.split(",") if each.partition("=")[0] not in FREE]
        words = "".join(rf"(?=.*\b{re.escape(each)})" for each in fixed)
        pattern = rf"^{name}(?={{|\s){words}" if fixed else rf"^{name}[{{ ]"
        assert re.search(pattern, scrape, re.MULTILINE), (name, labels)


def test_promtool_has_no_complaint_about_the_metrics() -> None:
    assert promtool("check", "metrics", text=encode_metrics(status()).decode()) == ""
