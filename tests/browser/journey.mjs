// Journeys through Beacon's pages in Chromium: node journey.mjs NAME. Each check is a line of JSON on standard output;
// the Rust tests beside this file know which checks there have to be.
//
// The browser accepts the one key that this Beacon made, and no other certificate that nobody vouches for.

import { createHash, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const { BEACON_ORIGIN: origin, BEACON_CERTIFICATE, BEACON_MODULES, BEACON_CHROMIUM, BEACON_PICTURES } = process.env;
const require = createRequire(join(BEACON_MODULES, "package.json"));
const { chromium } = require("playwright-core");

const NOTHING_FAILED = "nothing failed, nothing came from elsewhere, the console is empty";
const DESK = { width: 1280, height: 900 };
const PHONE = { width: 390, height: 844 };

const key = new X509Certificate(readFileSync(BEACON_CERTIFICATE)).publicKey.export({ type: "spki", format: "der" });
const spki = createHash("sha256").update(key).digest("base64");
const browser = await chromium.launch({
  executablePath: BEACON_CHROMIUM,
  headless: true,
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", `--ignore-certificate-errors-spki-list=${spki}`,
  ],
});

const report = (check, ok, detail = "") => console.log(JSON.stringify({ check, ok, detail: String(detail) }));

/** Runs one check; what it throws is what was wrong. */
async function check(name, body) {
  try {
    await body();
    report(name, true);
  } catch (error) {
    report(name, false, error.message);
  }
}

function same(actual, wanted, what) {
  const [one, two] = [JSON.stringify(actual), JSON.stringify(wanted)];
  if (one !== two) throw new Error(`${what}: ${one} and not ${two}`);
}

function holds(condition, what) {
  if (!condition) throw new Error(what);
}

/** What pages complained of, and where they went for it. */
const complaints = [];

async function open(options = {}) {
  const context = await browser.newContext({ viewport: DESK, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  page.expected = new Set();
  page.on("pageerror", (error) => complaints.push(`${page.url()}: ${error.message}`));
  page.on("console", (message) => {
    if (!["error", "warning"].includes(message.type())) return;
    // Chromium tells of a page with status 404 in the console; that is what was asked for.
    if (page.expected.has(message.location().url)) return;
    complaints.push(`${page.url()}: ${message.type()}: ${message.text()}`);
  });
  page.on("request", (request) => {
    if (new URL(request.url()).origin !== origin) complaints.push(`${page.url()}: asked for ${request.url()}`);
  });
  page.on("requestfailed", (request) => {
    // The page was left before it had all of it. What a policy forbids or nobody answers fails with another text.
    if (request.failure()?.errorText === "net::ERR_ABORTED") return;
    complaints.push(`${page.url()}: ${request.url()} failed: ${request.failure()?.errorText}`);
  });
  page.on("response", (response) => {
    if (response.status() >= 400 && !page.expected.has(response.url())) {
      complaints.push(`${page.url()}: ${response.url()} answered ${response.status()}`);
    }
  });
  return page;
}

const nothingFailed = () => check(NOTHING_FAILED, () => holds(!complaints.length, complaints.join("\n    ")));

/** The addresses in the navigation, in its order. */
const navigation = async (page) => {
  await page.goto(`${origin}/docs/`);
  return page.locator("#pages a").evaluateAll((links) => links.map((link) => link.href));
};

const scheme = (page) => page.evaluate(() => {
  const [red, green, blue] = getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number);
  return red + green + blue > 384 ? "light" : "dark";
});

// Journeys ----------------------------------------------------------------------------------------------------------

async function visit() {
  const page = await open({ permissions: ["clipboard-read", "clipboard-write"], colorScheme: "light" });
  await check("the welcome page opens over HTTP/2", async () => {
    const response = await page.goto(`${origin}/`);
    same(response.status(), 200, "status");
    same(await page.locator("h1").allInnerTexts(), ["Beacon is running"], "headings");
    same(await page.evaluate(() => performance.getEntriesByType("navigation")[0].nextHopProtocol), "h2", "protocol");
    same(await page.evaluate(() => isSecureContext), true, "secure context");
  });
  await check("the welcome page leads to the documentation", async () => {
    await page.getByRole("link", { name: "Read the documentation" }).click();
    await page.waitForURL(`${origin}/docs/`);
    same(await page.locator("h1").innerText(), "Beacon", "heading");
  });
  await check("next leads to the next page, previous back", async () => {
    const title = await page.locator(".pager .next span").innerText();
    await page.locator(".pager .next").click();
    await page.waitForURL(`${origin}/docs/getting-started`);
    same(await page.locator("article h1").innerText(), title, "heading");
    await page.locator(".pager .previous").click();
    await page.waitForURL(`${origin}/docs/`);
  });
  await check("a heading's anchor is at the top of the window and in the address", async () => {
    await page.goto(`${origin}/docs/operate/configuration-reference`);
    const heading = page.locator("h3#httptimeouts");
    await heading.hover();
    await heading.locator(".anchor").click();
    await page.waitForURL(/#httptimeouts$/);
    // Below the bar, and not under it; scrolling may be smooth.
    await page.waitForFunction(() => {
      const top = document.getElementById("httptimeouts").getBoundingClientRect().top;
      return top >= document.querySelector(".bar").getBoundingClientRect().bottom && top < 160;
    });
    await page.waitForFunction(() => document.querySelector("aside.contents [aria-current]")?.hash === "#httptimeouts");
  });
  await check("the code is copied as it stands", async () => {
    await page.goto(`${origin}/docs/getting-started`);
    const block = page.locator(".code", { hasText: "beacon check --config" }).first();
    await block.hover();
    await block.getByRole("button", { name: "Copy" }).click();
    await block.getByRole("button", { name: "Copied" }).waitFor();
    same(
      await page.evaluate(() => navigator.clipboard.readText()),
      "beacon check --config beacon.toml\nbeacon serve --config beacon.toml",
      "clipboard",
    );
  });
  await check("a missing page says so and leads back", async () => {
    page.expected.add(`${origin}/docs/no/such/page`);
    const response = await page.goto(`${origin}/docs/no/such/page`);
    same(response.status(), 404, "status");
    same(await page.locator("h1").allInnerTexts(), ["There is no page at this address"], "headings");
    await page.getByRole("link", { name: "the front page" }).click();
    await page.waitForURL(`${origin}/docs/`);
  });
  await check("a missing page beside the documentation says so", async () => {
    page.expected.add(`${origin}/nothing`);
    const response = await page.goto(`${origin}/nothing`);
    same(response.status(), 404, "status");
    await page.getByRole("link", { name: "to the documentation" }).click();
    await page.waitForURL(`${origin}/docs/`);
  });
  await check("the chosen scheme stays on the next page and after a reload", async () => {
    same(await scheme(page), "light", "scheme at first");
    await page.getByRole("button", { name: "Use dark colours" }).click();
    same(await scheme(page), "dark", "scheme after the button");
    await page.locator(".pager .next").click();
    await page.waitForURL(`${origin}/docs/getting-started`);
    same(await scheme(page), "dark", "scheme on the next page");
    await page.reload();
    same(await scheme(page), "dark", "scheme after a reload");
    await page.goto(`${origin}/`);
    same(await scheme(page), "dark", "scheme on the welcome page");
    await page.getByRole("button", { name: "Use light colours" }).click();
    same(await scheme(page), "light", "scheme after the second choice");
  });
  await check("the system's scheme is followed until one is chosen", async () => {
    await page.emulateMedia({ colorScheme: "dark" });
    same(await scheme(page), "dark", "scheme");
    await page.emulateMedia({ colorScheme: "light" });
    same(await scheme(page), "light", "scheme");
  });
  await check("the page can be read without scripts", async () => {
    const plain = await open({ javaScriptEnabled: false, viewport: PHONE });
    await plain.goto(`${origin}/docs/guide/tls`);
    same(await plain.locator("h1").innerText(), "TLS", "heading");
    // A button that needs a script is not shown without one.
    same(await plain.getByRole("button").count(), 1, "buttons");
    await plain.getByRole("button", { name: "All pages" }).click();
    await plain.locator("#pages").getByRole("link", { name: "Getting started" }).click();
    await plain.waitForURL(`${origin}/docs/getting-started`);
    await plain.context().close();
  });
  await nothingFailed();
}

async function search() {
  const page = await open();
  const dialog = page.getByRole("dialog", { name: "Search" });
  const input = page.getByRole("combobox", { name: "Search the documentation" });
  const options = page.getByRole("option");
  await page.goto(`${origin}/docs/`);
  await check("the slash opens the search, and the input has the focus", async () => {
    await page.keyboard.press("/");
    await dialog.waitFor();
    same(await input.evaluate((element) => element === document.activeElement), true, "focus");
    same(await input.inputValue(), "", "the slash itself");
  });
  await check("results appear, the first is chosen, the arrows move", async () => {
    await page.keyboard.type("state fold");
    await options.first().waitFor();
    const chosen = () => options.evaluateAll((all) => all.findIndex((one) => one.ariaSelected === "true"));
    holds(await options.count() > 2, "there are fewer than three results");
    same(await chosen(), 0, "chosen");
    await page.keyboard.press("ArrowDown");
    same(await chosen(), 1, "chosen after an arrow");
    same(await input.getAttribute("aria-activedescendant"), "result-1", "active descendant");
    await page.keyboard.press("ArrowUp");
    await page.keyboard.press("ArrowUp");
    same(await chosen(), await options.count() - 1, "chosen before the first");
    await page.keyboard.press("ArrowDown");
    same(await chosen(), 0, "chosen after the last");
  });
  await check("Enter leads to the page with the heading", async () => {
    await page.keyboard.press("Enter");
    await page.waitForURL(`${origin}/docs/operate/running#the-state-folder`);
    same(await page.locator(":target").innerText(), "The state folder", "heading");
  });
  await check("what is not there is said not to be there", async () => {
    await page.keyboard.press("/");
    await page.keyboard.type("zyxwvut");
    await page.getByText("Nothing found for “zyxwvut”.").waitFor();
    same(await options.count(), 0, "results");
  });
  await check("markup in the search is text", async () => {
    await input.fill("<img src=x onerror=alert(1)>");
    await page.getByText("Nothing found for “<img src=x onerror=alert(1)>”.").waitFor();
    same(await dialog.locator("img").count(), 0, "images");
  });
  await check("Escape closes the search", async () => {
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "hidden" });
  });
  await check("control and K open it", async () => {
    await page.keyboard.press("Control+k");
    await dialog.waitFor();
  });
  await nothingFailed();
}

async function pages() {
  const page = await open();
  let addresses = [];
  await check("the navigation lists every page", async () => {
    addresses = await navigation(page);
    same(new Set(addresses).size, addresses.length, "different addresses");
    holds(addresses.length >= 20, `only ${addresses.length} pages`);
  });
  const wrong = { status: [], wide: [], narrow: [], title: [], links: [] };
  const titles = new Map();
  const links = new Map();
  const wide = () => page.evaluate(() => {
    const room = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= room) return "";
    const guilty = [...document.querySelectorAll("main *")].find((one) => one.getBoundingClientRect().right > room);
    return `${guilty?.outerHTML.slice(0, 120)} is ${document.documentElement.scrollWidth - room} px too wide`;
  });
  for (const address of addresses) {
    const response = await page.goto(address);
    const headings = await page.locator("h1").count();
    if (response.status() !== 200 || headings !== 1) {
      wrong.status.push(`${address}: ${response.status()}, ${headings} headings`);
    }
    const title = await page.title();
    if (titles.has(title)) wrong.title.push(`${address} and ${titles.get(title)}: ${title}`);
    titles.set(title, address);
    for (const link of await page.locator("main a").evaluateAll((all) => all.map((one) => one.href))) {
      if (link.startsWith(`${origin}/docs`)) links.set(link, address);
    }
    await page.setViewportSize(PHONE);
    const at390 = await wide();
    if (at390) wrong.wide.push(`${address}: ${at390}`);
    await page.setViewportSize({ width: 320, height: 640 });
    const at320 = await wide();
    if (at320) wrong.narrow.push(`${address}: ${at320}`);
    await page.setViewportSize(DESK);
  }
  const none = (list) => () => holds(!list.length, list.join("\n    "));
  await check("every page answers 200 and has one heading of the first level", none(wrong.status));
  await check("every page has a title of its own", none(wrong.title));
  await check("no page scrolls sideways at 390 pixels", none(wrong.wide));
  await check("no page scrolls sideways at 320 pixels", none(wrong.narrow));
  await check("next leads through every page", async () => {
    const walked = [`${origin}/docs/`];
    await page.goto(walked[0]);
    while (await page.locator(".pager .next").count()) {
      await page.goto(await page.locator(".pager .next").evaluate((link) => link.href));
      walked.push(page.url());
      holds(walked.length <= addresses.length, "it goes round");
    }
    same(walked, addresses, "the way");
  });
  await check("every link within the documentation leads somewhere", async () => {
    const ids = new Map();
    for (const [link, from] of links) {
      const url = new URL(link);
      const bare = url.origin + url.pathname;
      if (!ids.has(bare)) {
        const response = await page.goto(bare);
        const all = await page.locator("[id]").evaluateAll((elements) => elements.map((one) => one.id));
        ids.set(bare, response.status() === 200 ? new Set(all) : null);
      }
      const there = ids.get(bare);
      const anchor = decodeURIComponent(url.hash.slice(1));
      if (!there || (anchor && !there.has(anchor))) wrong.links.push(`${from} leads to ${link}`);
    }
    none(wrong.links)();
    holds(links.size > 100, `only ${links.size} links`);
  });
  await check("the drawer opens on a phone, leads to a page, and closes", async () => {
    const phone = await open({ viewport: PHONE, hasTouch: true, isMobile: true });
    await phone.goto(`${origin}/docs/`);
    const drawer = phone.locator("#pages");
    same(await drawer.isVisible(), false, "open at first");
    await phone.getByRole("button", { name: "All pages" }).tap();
    await drawer.waitFor();
    await phone.keyboard.press("Escape");
    await drawer.waitFor({ state: "hidden" });
    await phone.getByRole("button", { name: "All pages" }).tap();
    await drawer.getByRole("link", { name: "Limits", exact: true }).tap();
    await phone.waitForURL(`${origin}/docs/operate/limits`);
    same(await drawer.isVisible(), false, "open on the next page");
    await phone.context().close();
  });
  await nothingFailed();
}

async function folder() {
  const page = await open();
  // The browser asks for it where a page names no icon.
  page.expected.add(`${origin}/favicon.ico`);
  await check("a folder is listed, and its links lead to the files", async () => {
    await page.goto(`${origin}/files/`);
    same(await page.locator("tbody tr").count(), 5, "rows");
    await page.getByRole("link", { name: "photographs of the harbour/" }).click();
    await page.waitForURL(`${origin}/files/photographs%20of%20the%20harbour/`);
    await page.getByRole("link", { name: ".." }).click();
    await page.waitForURL(`${origin}/files/`);
    const response = await page.goto(await page.getByRole("link", { name: "größe & <tags>.html" }).evaluate((link) => link.href));
    same(response.status(), 200, "status of a file with an odd name");
    await page.goto(`${origin}/files/`);
    await page.setViewportSize(PHONE);
    same(await page.evaluate(() => document.documentElement.scrollWidth), PHONE.width, "width on a phone");
  });
  await check("an error is a page", async () => {
    page.expected.add(`${origin}/files/missing`);
    const response = await page.goto(`${origin}/files/missing`);
    same(response.status(), 404, "status");
    same(await page.locator("h1").allInnerTexts(), ["404 Not Found"], "headings");
  });
  await nothingFailed();
}

// axe ---------------------------------------------------------------------------------------------------------------

async function audit(scenes) {
  const axe = readFileSync(join(BEACON_MODULES, "node_modules/axe-core/axe.min.js"), "utf8");
  for (const [name, address, options, prepare] of scenes) {
    for (const colorScheme of ["light", "dark"]) {
      await check(`${name}, ${colorScheme}`, async () => {
        // Only here: axe measures with styles of its own, which the pages' policy forbids.
        const page = await open({ bypassCSP: true, reducedMotion: "reduce", colorScheme, ...options });
        await page.goto(origin + address);
        await prepare?.(page);
        same(await scheme(page), colorScheme, "scheme");
        await page.evaluate(axe);
        const { violations, passes } = await page.evaluate(() => globalThis.axe.run(document, {
          runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
        }));
        holds(passes.some((one) => one.id === "color-contrast"), "contrast was not measured");
        const found = violations.map((one) => `${one.id}: ${one.help}: ${one.nodes.map((node) => node.html).slice(0, 3).join(" ")}`);
        holds(!found.length, found.join("\n    "));
        await page.context().close();
      });
    }
  }
}

const find = async (page) => {
  await page.keyboard.press("/");
  await page.keyboard.type("certif");
  await page.getByRole("option").first().waitFor();
};
const drawer = async (page) => {
  await page.getByRole("button", { name: "All pages" }).click();
  await page.locator("#pages").waitFor();
};

const contrast = () => audit([
  ["welcome", "/"],
  ["index", "/docs/"],
  ["long page", "/docs/operate/configuration-reference"],
  ["code in colours", "/docs/guide/behind-a-proxy"],
  ["search", "/docs/", {}, find],
  ["drawer on a phone", "/docs/operate/limits", { viewport: PHONE }, drawer],
  ["missing page", "/docs/no/such/page"],
]);
const contrastFolder = () => audit([["listing", "/files/"], ["error page", "/files/missing"]]);

// Pictures ----------------------------------------------------------------------------------------------------------

async function pictures(scenes) {
  for (const [size, viewport] of Object.entries({ phone: PHONE, desk: DESK })) {
    for (const colorScheme of ["light", "dark"]) {
      const touch = size === "phone" ? { hasTouch: true, isMobile: true } : {};
      for (const [name, address, prepare] of scenes) {
        const page = await open({ viewport, colorScheme, reducedMotion: "reduce", ...touch });
        await page.goto(origin + address);
        await prepare?.(page);
        await page.screenshot({ path: join(BEACON_PICTURES, `${name}-${size}-${colorScheme}.png`) });
        await page.context().close();
      }
    }
  }
}

const look = () => pictures([
  ["welcome", "/"],
  ["index", "/docs/"],
  ["reference", "/docs/operate/configuration-reference#httplimits"],
  ["started", "/docs/getting-started#trust-the-local-certificate"],
  ["search", "/docs/", find],
  ["missing", "/docs/no/such/page"],
  ["nothing", "/nothing"],
]);
const lookFolder = () => pictures([["listing", "/files/"], ["error", "/files/missing"]]);

const journeys = {
  visit, search, pages, folder, contrast, "contrast-folder": contrastFolder, look, "look-folder": lookFolder,
};
try {
  await journeys[process.argv[2]]();
} finally {
  await browser.close();
}
