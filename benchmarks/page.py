"""The page of a net: how large it is, and how soon a browser has drawn it. Needs playwright and a Chromium.

    python benchmarks/page.py [--runs N]

- made: the whole `netcompile NET -o net.html`, a process of its own each time, median.
- drawn: from opening the page to the diagram in it, in headless Chromium, median; folded, as by default, and expanded.
- 2,000 layers, nothing folded: the same, and then what a user waits for at each step, from the act to the next frame.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from draw import LAYERS, NET, large

MOST_BYTES = 1_500_000
GOAL = 1.0  # seconds until ResNet-152 is drawn
STEPS = {
    "zoom": "d.scaleBy(0.8)",
    "move": "d.selection.call(d.zoom.translateBy, 0, -200)",
    "trace": "d.trace(d.scene.boxes[700])",
    "colour": "d.colourBy('macs')",
    "select": "d.select(LAST)",
    "fold": "d.foldAll(true)",
    "unfold": "d.foldAll(false)",
    "turn": "d.turn('LR')",
}
# Until the frame after the one in which it is painted.
STEP = """() => new Promise((done) => {
  const d = netcompiler.diagram, start = performance.now()
  DO
  requestAnimationFrame(() => setTimeout(() => done((performance.now() - start) / 1000)))
})"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    missed = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        big = Path(folder) / "big.prototxt"
        big.write_text(large())
        for name, net, more in (
            ("ResNet-152, folded", NET, []),
            ("ResNet-152, expanded", NET, ["--expand"]),
            (f"{LAYERS} layers", big, ["--expand"]),
        ):
            target = Path(folder) / "net.html"
            made, drawn = [], []
            for _ in range(runs):
                start = time.perf_counter()
                command = [sys.executable, "-m", "netcompiler", str(net), *more, "-o", str(target)]
                subprocess.check_output(command, cwd=NET.parents[1])
                made.append(time.perf_counter() - start)
            for _ in range(runs):
                context = browser.new_context(viewport={"width": 1440, "height": 900})
                tab = context.new_page()
                tab.goto(target.as_uri())
                drawn.append(tab.evaluate("performance.getEntriesByName('drawn')[0].startTime") / 1000)
                if len(drawn) < runs or net == NET:
                    context.close()
            size, seconds = target.stat().st_size, statistics.median(drawn)
            print(f"{name:<22} {size / 1e3:,.0f} kB, made in {statistics.median(made):.2f} s, drawn in {seconds:.2f} s")
            if net == NET and (size > MOST_BYTES or seconds > GOAL):
                missed.append(name)
        count = tab.evaluate("netcompiler.diagram.layers.length - 1")
        for step, act in STEPS.items():
            took = tab.evaluate(STEP.replace("DO", act.replace("LAST", str(count))))
            print(f"  {step:<8} {1000 * took:,.0f} ms")
        browser.close()
    print(f"goal {MOST_BYTES / 1e3:,.0f} kB and {GOAL} s for ResNet-152: {'missed' if missed else 'met'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
