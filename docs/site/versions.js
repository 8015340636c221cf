// The versions of this site, and a choice between them in the header of every page. `make site` writes the list anew.
const VERSIONS = [];
const beside = new URL(".", document.currentScript.src);
const here = location.href.slice(beside.href.length).split("/")[0];
const choice = document.createElement("select");
choice.className = "versions";
choice.ariaLabel = "Version";
for (const version of VERSIONS) {
  choice.add(new Option(version === VERSIONS[0] ? version : `${version} (older)`, version, version === here, version === here));
}
choice.addEventListener("change", () => { location.href = new URL(`${choice.value}/index.html`, beside); });
document.querySelector(".md-header__title").after(choice);
