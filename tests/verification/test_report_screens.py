"""The audit's report as a browser shows it: on a desktop, on a phone, on A4. Needs Chromium.

One page measures the others, each in a frame of its own width: what sticks out, what is cut off, what is written over
something else, what is too small or too pale to read. Screenshots are looked at as well, pixel by pixel.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import pytest

from tests.verification import audit_pages as pages
from verification.audit_report import render_audit

pytestmark = pytest.mark.long

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
if not CHROMIUM:
    pytest.skip("no Chromium: install chromium to look at the report", allow_module_level=True)

DESKTOP, PHONE, A4 = 1280, 390, 688
LEAST = {DESKTOP: 10.5, PHONE: 9.5, A4: 9}
"""The smallest letters: CSS pixels, of which 9 are 6.75 points on paper."""
PAPER = (251, 251, 249)
TONES = {"supported": (27, 110, 83), "not_supported": (61, 75, 102), "failed_control": (138, 109, 27)}
MEASURE = """
const colour = c => { const m = (c.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number); return [...m, 1].slice(0, 4); };
const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const contrast = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
const ground = e => { for (; e; e = e.parentElement) {
  const c = colour(getComputedStyle(e).backgroundColor); if (c[3] > .99) return c; } return [255, 255, 255, 1]; };
const name = e => e.tagName + '.' + (e.getAttribute('class') || '');
function look(doc, least) {
  const view = doc.defaultView, root = doc.documentElement;
  const found = {width: view.innerWidth, scroll: root.scrollWidth, height: root.scrollHeight, texts: 0,
    out: [], cut: [], pale: [], small: [], over: [], inner: []};
  for (const e of doc.body.querySelectorAll('*')) {
    const box = e.getBoundingClientRect(), style = view.getComputedStyle(e);
    if (!e.closest('.scroll table') && box.right > view.innerWidth + 1) found.out.push(name(e));
    if (style.overflowY === 'hidden' && e.scrollHeight > e.clientHeight + 1) found.cut.push(name(e));
    if (e.matches('.scroll') && e.scrollWidth > e.clientWidth + 1) found.inner.push(e.getAttribute('aria-labelledby'));
    const written = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!written || e.closest('title, desc')) continue;
    found.texts += 1;
    const drawn = e.tagName === 'text';
    const ratio = contrast(colour(drawn ? style.fill : style.color), ground(e));
    if (ratio < 4.5) found.pale.push(name(e) + ' ' + ratio.toFixed(2));
    const scale = drawn ? e.getScreenCTM().a : 1, size = parseFloat(style.fontSize) * scale;
    if (size < least) found.small.push(name(e) + ' ' + size.toFixed(1));
  }
  for (const picture of doc.querySelectorAll('figure svg')) {
    const texts = [...picture.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
    const frame = picture.closest('figure').getBoundingClientRect();
    texts.forEach(([a, p], i) => {
      if (p.right > frame.right + 1 || p.left < frame.left - 1) found.over.push(a + ' leaves its figure');
      texts.slice(i + 1).forEach(([b, q]) => {
        const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
        const high = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
        if (wide > 1 && high > .3 * Math.min(p.height, q.height)) found.over.push(a + ' over ' + b);
      });
    });
  }
  return found;
}
addEventListener('load', () => {
  const found = {};
  for (const f of document.querySelectorAll('iframe')) found[f.id] = look(f.contentDocument, Number(f.dataset.least));
  document.getElementById('found').textContent = JSON.stringify(found);
});
"""


def chromium(folder, *arguments: str) -> str:
    """What a headless Chromium of its own profile writes to stdout."""
    shown = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
         "--force-device-scale-factor=1", "--disable-lcd-text", f"--user-data-dir={folder / 'profile'}", *arguments],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return shown.stdout


def frames() -> dict[str, tuple[int, str]]:
    """Every page at every width, as printed, and three pages with something broken."""
    written = {name: render_audit(make()) for name, make in pages.PAGES.items()}
    found = {f"{name}-{width}": (width, page) for name, page in written.items() for width in (DESKTOP, PHONE)}
    found |= {f"{name}-a4": (A4, page.replace("@media print", "@media all")) for name, page in written.items()}
    broken = {
        "wide": ".verdict{width:60rem}", "pale": ".audit .note{color:#b0b4ba}", "small": ".audit td{font-size:8px}",
        "over": "figure svg text{font-size:26px}", "cut": ".sentence{height:1rem;overflow:hidden}",
    }  # fmt: skip
    page = written["supported"]
    return found | {name: (PHONE, page.replace("</style>", rule + "</style>")) for name, rule in broken.items()}


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("measured")
    boxes = "".join(
        f'<iframe id="{name}" data-least="{LEAST[width]}" style="width:{width}px;height:900px;border:0" '
        f'srcdoc="{html.escape(page)}"></iframe>'
        for name, (width, page) in frames().items()
    )
    measure = folder / "measure.html"
    measure.write_text(f'<!doctype html><meta charset="utf-8"><pre id="found"></pre>{boxes}<script>{MEASURE}</script>')
    dumped = chromium(folder, "--dump-dom", measure.as_uri())
    found = re.search(r'<pre id="found">(.*?)</pre>', dumped, re.DOTALL)
    assert found is not None
    return json.loads(html.unescape(found[1]))


@pytest.mark.parametrize("width", [DESKTOP, PHONE, "a4"])
@pytest.mark.parametrize("name", pages.PAGES)
def test_nothing_sticks_out_is_cut_off_overwritten_pale_or_tiny(seen, name, width):
    page = seen[f"{name}-{width}"]
    assert page["scroll"] == page["width"] == (A4 if width == "a4" else width)
    assert page["height"] > 2000
    assert page["texts"] > 150
    for fault in ("out", "cut", "over", "pale", "small"):
        assert page[fault] == [], fault


@pytest.mark.parametrize("name", pages.PAGES)
def test_tables_scroll_on_a_phone_alone(seen, name):
    assert seen[f"{name}-{PHONE}"]["inner"]
    assert seen[f"{name}-{DESKTOP}"]["inner"] == []
    assert seen[f"{name}-a4"]["inner"] == []


@pytest.mark.parametrize(
    ("name", "fault"), [("wide", "out"), ("pale", "pale"), ("small", "small"), ("over", "over"), ("cut", "cut")]
)
def test_the_measure_finds_what_is_broken(seen, name, fault):
    assert seen[name][fault]


@pytest.mark.parametrize(
    ("name", "width"), [("supported", DESKTOP), ("not_supported", PHONE), ("failed_control", PHONE)]
)
def test_the_screen_shows_the_verdict_on_paper_and_nothing_at_the_edge(tmp_path, name, width):
    from PIL import Image

    page = tmp_path / "page.html"
    page.write_text(render_audit(pages.PAGES[name]()))
    chromium(tmp_path, f"--window-size={width},1200", f"--screenshot={tmp_path / 'screen.png'}", page.as_uri())
    with Image.open(tmp_path / "screen.png") as image:
        screen = image.convert("RGB")
    assert screen.size == (width, 1200)
    edge = screen.crop((width - 8, 0, width, 1200))
    assert edge.getcolors() == [(8 * 1200, PAPER)]
    colours = {colour: count for count, colour in screen.crop((0, 0, width, 600)).getcolors(1 << 20)}
    assert colours[TONES[name]] > 800  # the bar, the sign and the word
    assert not any(colours.get(tone, 0) > 800 for other, tone in TONES.items() if other not in (name, "supported"))
    assert 0.01 < sum(n for c, n in colours.items() if max(c) < 110) / (width * 600) < 0.2  # ink
