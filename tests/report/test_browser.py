"""The page in headless Chromium, where that is installed: links, filters, keys, no error."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ctrak_jax.report import blocks
from tests.report.made_up import HOSTILE, make_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

STEPS = """<script>
addEventListener("load", async () => {
  const at = (id) => document.getElementById(id);
  const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
  const until = async (holds) => {
    for (let n = 0; n < 100 && !holds(); n += 1) await sleep(100);
  };
  const drawn = async () => {
    await sleep(100);
    await until(() => document.body.dataset.address === location.hash);
  };
  const filled = () => !document.querySelector("#rows .tile:not([title])");
  const key = (name) => document.activeElement.dispatchEvent(
    new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));
  const seen = {};
  const see = async (name) => {
    await drawn();
    seen[name] = {
      query: document.body.dataset.shown,
      pressed: document.querySelector("#thumbs [aria-pressed=true]")?.title ?? null,
      concept: document.querySelector("#concepts [aria-pressed=true]")?.textContent ?? null,
      thumbs: document.querySelectorAll("#thumbs button").length,
      rows: [...document.querySelectorAll("#rows .row")].map((row) => row.dataset.method),
      hits: document.querySelectorAll("#rows .tile").length,
      titles: [...document.querySelectorAll("#rows .tile")].filter((tile) => tile.title).length,
      count: at("count").textContent,
      command: at("ask").hidden ? null : at("command").textContent,
      status: at("status").textContent,
      text: at("text").value,
      focus: document.activeElement.id,
      hash: location.hash,
      wide: document.documentElement.scrollWidth - innerWidth,
    };
  };
  await see("linked");
  dispatchEvent(new Event("beforeprint")); await until(filled); await see("printed");
  key("j"); await see("j");
  key("ArrowLeft"); await see("left");
  history.back(); await see("back");
  key("c"); await see("c");
  key("/"); await see("slash");
  at("text").value = "blue CIRCLE";
  at("text").dispatchEvent(new Event("input")); await see("text");
  at("text").value = "nothing like it";
  at("text").dispatchEvent(new Event("input")); await see("nothing");
  key("Escape"); await see("escape");
  at("method").value = "das";
  at("method").dispatchEvent(new Event("change")); await see("method");
  at("scope").value = "global";
  at("scope").dispatchEvent(new Event("change")); await see("scope");
  document.body.dataset.seen = JSON.stringify(seen);
});
</script>"""


class Visit(NamedTuple):
    """What the steps saw, and what the console said."""

    seen: dict[str, Any]
    console: list[str]


def visit(folder: Path, page: str, address: str, profile: Path, steps: str = STEPS) -> Visit:
    assert CHROMIUM is not None
    probed = folder / "probed.html"
    probed.write_text(page.replace("</main>", f"</main>{steps}"), encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += ["--window-size=390,800", "--virtual-time-budget=60000", "--dump-dom"]
    done = subprocess.run(
        [*command, f"--user-data-dir={profile}", f"{probed.as_uri()}{address}"],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    found = re.search(r'data-seen="([^"]*)"', done.stdout)
    assert found, done.stderr
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Visit(json.loads(html.unescape(found[1])), console)


@pytest.mark.parametrize("inline", [True, False])
def test_links_filters_and_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inline: bool
) -> None:
    run = make_run(tmp_path / "run", seeds=(0, 3), hostile=True)
    if not inline:
        monkeypatch.setattr(blocks, "INLINE", 0)
    page = run.page(title=HOSTILE)
    assert (run.out / "data").exists() != inline
    address = "#query=circle-blue-local-01&seed=3&concept=color"
    seen, console = visit(run.out, page, address, tmp_path / "profile")
    assert console == []
    assert all(step["wide"] <= 0 for step in seen.values())
    assert all(step["status"] == "" for step in seen.values())

    linked = seen["linked"]
    assert linked["query"] == "circle-blue-local-01"
    assert linked["pressed"].startswith("circle-blue-local-01:")
    assert linked["concept"] == "color: blue"
    assert linked["command"].startswith(f"ctrak attribute {run.out} --image ")
    assert linked["command"].endswith(" --concept color --seed 3")
    assert "seed-3/queries/images/circle-blue-local-01.png" in linked["command"]
    assert linked["thumbs"] == 9
    # Ten of five methods, and the lowest of the two that kept all scores.
    assert linked["rows"] == ["concept-trak", "das", "d-trak", "trak", "unlearning"]
    assert linked["hits"] == 5 * 10 + 2 * 10
    # Thumbnails are loaded when they come into view, which is below the tables, or for print.
    assert linked["titles"] == 0
    assert seen["printed"]["titles"] == linked["hits"]

    assert seen["j"]["query"] != linked["query"]
    assert "query=" + seen["j"]["query"] in seen["j"]["hash"]
    assert seen["left"]["query"] == linked["query"]
    assert seen["back"]["query"] == seen["j"]["query"]
    assert {seen["back"]["concept"], seen["c"]["concept"]} != {"color: blue"}
    assert seen["c"]["query"] == seen["back"]["query"]

    assert seen["slash"]["focus"] == "text"
    assert seen["text"]["query"].startswith("circle-blue-")
    # A local query and the global one; the first local one is for validation.
    assert seen["text"]["thumbs"] == 2
    assert seen["text"]["count"] == "image 1 of 2 that match, 9 in all"
    assert seen["nothing"]["thumbs"] == 0
    assert seen["nothing"]["count"] == "No image matches."
    assert (seen["escape"]["text"], seen["escape"]["thumbs"]) == ("", 9)
    assert seen["escape"]["focus"] != "text"

    assert seen["method"]["rows"] == ["das"]
    assert " --method das --seed 3" in seen["method"]["command"]
    assert seen["scope"]["thumbs"] == 4
    assert seen["scope"]["command"] is None
