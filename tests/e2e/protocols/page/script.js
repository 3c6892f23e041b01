// Writes into the document what every other part of the page came to.
function add(text) {
  const item = document.createElement("li");
  item.textContent = text;
  document.getElementById("list").append(item);
}

async function build() {
  const heading = getComputedStyle(document.querySelector("h1"));
  add(`style ${heading.color} ${heading.letterSpacing}`);
  const image = document.getElementById("image");
  add(`image ${image.naturalWidth} x ${image.naturalHeight}`);
  const { words } = await (await fetch("/data.json")).json();
  words.forEach(add);
  const said = await fetch("/said", { method: "POST", body: new Uint8Array(200_000).fill(7) });
  add(`said ${said.status} ${await said.text()}`);
  const loaded = performance.getEntriesByType("resource").map((entry) => `${new URL(entry.name).pathname} ${entry.nextHopProtocol}`);
  loaded.sort().forEach(add);
  document.title = "all there";
}

addEventListener("load", () => build().catch((error) => add(`failed: ${error}`)));
