// What pages do beyond HTML and htmx. Nothing here is needed to find and read a call.
(() => {
  "use strict";
  document.documentElement.classList.add("scripted");
  const told = (text, milliseconds = 2500) => {
    const place = document.getElementById("told");
    place.textContent = text;
    clearTimeout(told.timer);
    if (milliseconds < Infinity) told.timer = setTimeout(() => (place.textContent = ""), milliseconds);
  };

  // Who is signed out goes to the form for signing in with the page itself; any other failure of a part is told.
  const OTHER_ACCOUNT = 409;
  document.addEventListener("htmx:sse:after:message", (event) => {
    if (event.detail.message.event === "signed-out") location.reload();
  });
  document.addEventListener("htmx:sse:after:connection", (event) => {
    if (event.detail.connection.status === 204) location.reload();
  });
  document.addEventListener("htmx:sse:error", (event) => {
    if (event.detail.status === OTHER_ACCOUNT) told("Another account is shown now. Reload this page.", Infinity);
  });
  document.addEventListener("htmx:response:error", (event) => {
    const { response, text } = event.detail.ctx;
    told(text, response.status === OTHER_ACCOUNT ? Infinity : 10_000);
  });

  // Signing in elsewhere signs in here too, and the form in this window would be refused: go where it leads.
  const signIn = document.querySelector("form[action$='/sign-in']");
  if (signIn) {
    addEventListener("focus", async () => {
      const address = `${signIn.action}?next=${encodeURIComponent(signIn.elements.next.value)}`;
      const answer = await fetch(address, { redirect: "manual" });
      if (answer.type === "opaqueredirect") location.href = address;
    });
  }

  // Times: the browser's zone is one of those to choose from.
  const zones = document.querySelector("select[data-zone]");
  if (zones) {
    const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
    if (own && ![...zones.options].some((option) => option.value === own)) zones.add(new Option(`${own} (here)`, own));
    zones.addEventListener("change", () => zones.form.submit());
    const here = zones.form.querySelector("[data-here]");
    here.value = location.pathname + location.search;
  }

  // A row is as good as its link, unless text is being marked.
  document.addEventListener("click", (event) => {
    const row = event.target.closest(".calls tbody tr");
    if (row && !event.target.closest("a, button") && !String(getSelection())) row.querySelector("a").click();
    const menu = document.querySelector(".menu[open]");
    if (menu && (!menu.contains(event.target) || event.target.closest("a"))) menu.open = false;
  });

  // Keys: / to search, j and k from call to call.
  document.addEventListener("keydown", (event) => {
    const menu = event.key === "Escape" && document.querySelector(".menu[open]");
    if (menu) {
      // What had the focus in the menu is hidden with it.
      if (menu.contains(document.activeElement)) menu.querySelector("summary").focus();
      menu.open = false;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
    if (event.key === "/") {
      const search = document.querySelector("[data-search], .filter-events [type=search]");
      if (search) {
        event.preventDefault();
        search.focus();
        search.select();
      }
    }
    if (event.key === "j" || event.key === "k") {
      const links = [...document.querySelectorAll(".calls .when a")];
      const at = links.indexOf(document.activeElement);
      links[Math.max(0, Math.min(links.length - 1, at + (event.key === "j" ? 1 : -1)))]?.focus();
    }
  });

  // Copying; where the clipboard is closed to pages (plain HTTP), the old way.
  const copy = async (text, message = "Copied.") => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.body.appendChild(document.createElement("textarea"));
      area.value = text;
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    told(message);
  };
  const eventText = (row) => {
    const values = [...row.querySelectorAll("dl div")].map((pair) => `${pair.children[0].textContent}=${pair.children[1].textContent}`);
    const cells = [row.querySelector("time").textContent, row.querySelector(".tag").textContent, row.querySelector(".line span").textContent];
    return [...cells, values.join(" ")].join("\t").trimEnd();
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy], [data-copy-events], [data-copy-link]");
    if (!button) return;
    event.preventDefault();
    if (button.matches("[data-copy-link]")) copy(button.href);
    else if (button.matches("[data-copy]")) copy(button.closest(".code").querySelector("code").textContent);
    else {
      const rows = [...document.querySelectorAll(".events tbody tr")];
      const more = document.querySelector("form.following");
      copy(rows.map(eventText).join("\n"), more ? `Copied the ${rows.length} events that are shown; there are more.` : "Copied.");
    }
  });

  // A download goes on by itself; how far it has come is shown meanwhile.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-export]");
    if (!link) return;
    const id = Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
    const url = new URL(link.href);
    url.searchParams.set("progress", id);
    link.href = url;
    const place = document.getElementById("download");
    htmx.ajax("GET", `/console/export/progress?id=${id}`, { source: place, target: place, swap: "innerHTML", timeout: 0 });
  });

  // Pointing at the timeline says what was then; a click leads there.
  const moment = (svg, event) => {
    const box = svg.closest(".timeline").dataset;
    return Math.round(Number(box.since) + (place(svg, event) * Number(box.span)) / 1000);
  };
  // Where there are too many events to have them all at hand.
  const ask = (svg, event) => {
    const address = new URL(svg.closest(".timeline").dataset.moment, location);
    address.searchParams.set("at", moment(svg, event));
    clearTimeout(ask.timer);
    ask.timer = setTimeout(async () => {
      const headers = { "HX-Request": "true", "X-Account": document.body.dataset.account };
      const answer = await fetch(address, { headers });
      if (answer.status === 204) location.reload();
      else if (answer.ok) document.getElementById("pointed").textContent = await answer.text();
    }, 80);
  };
  const nearest = (marks, at) => marks.reduce((best, mark) => (Math.abs(mark.at - at) < Math.abs(best.at - at) ? mark : best));
  const place = (svg, event) => ((event.clientX - svg.getBoundingClientRect().left) * 1000) / svg.clientWidth;
  document.addEventListener("mousemove", (event) => {
    const svg = event.target.closest?.(".ticks");
    if (!svg) return;
    const marks = JSON.parse(svg.dataset.marks);
    if (!marks.length) return ask(svg, event);
    document.getElementById("pointed").textContent = nearest(marks, place(svg, event)).text;
  });
  document.addEventListener("click", (event) => {
    const svg = event.target.closest(".ticks");
    if (!svg) return;
    const at = moment(svg, event);
    document.querySelector(".events .pointed")?.classList.remove("pointed");
    const rows = [...document.querySelectorAll(".events tbody tr")];
    const distance = (row) => Math.abs(Number(row.dataset.at) - at);
    const show = (row) => row?.scrollIntoView({ block: "center" });
    if (document.querySelector(".events[data-is-part]")) {
      showEvents({ at }).then(() => show(document.querySelector(".events .pointed")));
    } else if (rows.length) {
      const row = rows.reduce((best, each) => (distance(each) < distance(best) ? each : best));
      row.classList.add("pointed");
      show(row);
    }
  });

  // The events are shown as their form asks for them, and again when there are more of them.
  const showEvents = (values) => {
    const target = document.getElementById("events");
    const source = target.querySelector(".filter-events") ?? target;
    return htmx.ajax("GET", target.dataset.path, { source, target, swap: "innerMorph", values });
  };
  // What is being typed or was just chosen asks for other events than those in the table, from their first on.
  const isChanged = () =>
    [...document.querySelectorAll(".filter-events input")].some((input) =>
      input.type === "checkbox" ? input.checked !== input.defaultChecked : input.value.trim() !== input.defaultValue.trim(),
    );
  const logged = () => document.getElementById("events-title")?.dataset.logged;
  let known = logged();
  document.addEventListener("htmx:sse:after:message", () => {
    if (logged() === known) return;
    known = logged();
    const { from, most } = document.querySelector("table.events")?.dataset ?? {};
    showEvents(from === undefined || isChanged() ? {} : { from, shown: most });
  });
})();
