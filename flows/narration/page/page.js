
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const read = (id) => JSON.parse($(id).textContent);
  const book = read("book");
  const audio = $("audio");
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const wide = matchMedia("(min-width: 60rem)");
  const speeds = [...$("speed").options].map((one) => one.value);
  const SKIP = 15;

  let open = 0; // which chapter
  let chapter = null; // what is known of it
  let starts = new Float64Array(0); // of its sentences
  let spans = []; // its sentences on the page, as far as they are there yet
  let now = -1; // the sentence that is read
  let focus = 0; // the sentence that the tab key meets
  let track = -1; // which of its files
  let pending = null; // seconds in the file to go to once it is known how long it is
  let following = true;
  let rendering = 0;
  let frame = 0;
  let second = -1;
  let told = null; // the word that is read
  let played = null; // the played part of the picture

  const texts = new Map(); // of the chapters that were opened
  const text = (at) => {
    if (!texts.has(at)) texts.set(at, read(`data-${at}`));
    return texts.get(at);
  };

  // Small things

  const make = (name, properties = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(properties)) {
      if (key in element) element[key] = value;
      else element.setAttribute(key, value);
    }
    element.append(...children);
    return element;
  };
  const draw = (name, attributes, ...children) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const clock = (seconds) => {
    const all = Math.floor(seconds), two = (n) => String(n).padStart(2, "0");
    const h = Math.floor(all / 3600), m = Math.floor(all / 60) % 60;
    return h ? `${h}:${two(m)}:${two(all % 60)}` : `${m}:${two(all % 60)}`;
  };
  const length = (seconds) => {
    const minutes = Math.round(seconds / 60);
    if (minutes < 1) return `${Math.round(seconds)} seconds`;
    return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  };
  const size = (bytes) => (bytes === null ? "" : bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
  const say = (text) => { $("status").textContent = text; };
  const recall = (key) => {
    try { return JSON.parse(localStorage.getItem(`narrate ${key}`)); } catch { return null; }
  };
  const remember = (key, value) => {
    try { localStorage.setItem(`narrate ${key}`, JSON.stringify(value)); } catch { /* a browser may forbid it */ }
  };
  const last = (values, wanted) => { // the last place whose value is not above the wanted one, -1 where there is none
    let low = 0, high = values.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (values[middle] <= wanted) low = middle + 1; else high = middle;
    }
    return low - 1;
  };

  // Time

  const position = () => (track < 0 ? 0 : chapter.tracks[track][1] + (pending ?? audio.currentTime));
  const seconds = () => book.chapters[open].seconds;

  const seek = (to) => {
    if (!chapter.tracks.length) return;
    const at = Math.max(0, Math.min(to, seconds() - 0.05));
    const wanted = Math.max(0, chapter.tracks.findLastIndex((one) => one[1] <= at));
    const inside = at - chapter.tracks[wanted][1];
    if (wanted !== track) {
      track = wanted;
      pending = inside;
      audio.src = chapter.tracks[track][0];
      speed($("speed").value);
    } else if (audio.readyState > 0) {
      pending = null;
      audio.currentTime = inside;
    } else pending = inside;
    show(true);
  };
  const play = () => {
    if (!chapter.tracks.length) return;
    if (track < 0) seek(0);
    audio.play().catch((error) => { if (error.name !== "AbortError") trouble(); });
  };
  const toggle = () => (audio.paused ? play() : audio.pause());
  const trouble = () => {
    if (!audio.hasAttribute("src")) return;
    const text = `${chapter.tracks[track][3]} cannot be played. Is it still beside this page?`;
    $("missing").textContent = text;
    $("missing").hidden = false;
    say(text);
  };
  const speed = (value) => {
    $("speed").value = value;
    audio.defaultPlaybackRate = audio.playbackRate = Number(value);
  };
  const faster = (by) => {
    const at = Math.max(0, Math.min(speeds.length - 1, speeds.indexOf($("speed").value) + by));
    speed(speeds[at]);
    say(`Speed ${speeds[at]}`);
    keep();
  };
  const keep = () => remember(book.id, { chapter: open, time: position(), speed: $("speed").value });

  // What is read now

  const show = (jumped) => {
    const time = position();
    if (Math.floor(time) !== second || jumped) {
      second = Math.floor(time);
      $("now").textContent = clock(time);
      $("seek").value = time;
      $("seek").setAttribute("aria-valuetext", `${clock(time)} of ${clock(seconds())}`);
      if (played) played.setAttribute("width", (time / seconds()) * 960);
    }
    // A place that was jumped to is the sentence's beginning, give or take what decoding rounds.
    const found = last(starts, time + 0.02);
    if (found !== now) {
      enter(found);
      if (!jumped) keep();
    }
    word(time);
  };
  const enter = (at) => {
    spans[now]?.removeAttribute("aria-current");
    now = at;
    spans[now]?.setAttribute("aria-current", "true");
    if (now >= 0 && !$("article").contains(document.activeElement)) rove(now, false);
    bring();
  };
  const word = (time) => {
    if (!window.Highlight || !CSS.highlights) return;
    const words = (now >= 0 && chapter.sentences[now][5]) || []; // of each word four numbers: its slice, its milliseconds
    const inside = now < 0 ? 0 : (time - starts[now]) * 1000;
    let at = words.length - 4;
    while (at >= 0 && words[at + 2] > inside + 20) at -= 4;
    if (at >= 0 && inside > words[at + 3] + 250) at = -1;
    const found = at < 0 ? null : `${now}:${at}`;
    if (found === told) return;
    told = found;
    const node = spans[now]?.firstChild;
    if (!found || !node) return void CSS.highlights.delete("word");
    const range = new Range();
    range.setStart(node, words[at]);
    range.setEnd(node, words[at + 1]);
    CSS.highlights.set("word", new Highlight(range));
  };
  const tick = () => {
    show(false);
    frame = audio.paused ? 0 : requestAnimationFrame(tick);
  };

  const bring = (smooth = true, tries = 3) => {
    if (!following || !spans[now] || $("retake").open) return;
    const box = spans[now].getBoundingClientRect();
    const height = innerHeight - $("player").offsetHeight;
    if (box.top > height * 0.1 && Math.min(box.bottom, box.top + height * 0.4) < height * 0.75) return;
    const by = box.top - height * 0.3, far = Math.abs(by) > 1.5 * innerHeight;
    scrollBy({ top: by, behavior: smooth && !far && !calm.matches ? "smooth" : "instant" });
    // Paragraphs that were not on the screen yet turn out longer or shorter than was guessed.
    if (far && tries) requestAnimationFrame(() => bring(false, tries - 1));
  };
  const follow = (yes) => {
    following = yes;
    $("back").hidden = yes || audio.paused;
    if (yes) bring();
  };
  const leave = () => { if (following && !audio.paused) follow(false); };

  // A chapter

  const render = (then) => {
    const mine = ++rendering, room = $("text"), sentences = chapter.sentences;
    const headings = new Set(chapter.headings), breaks = new Set(chapter.breaks);
    room.replaceChildren();
    spans = [];
    let paragraph = null, number = null;
    const some = () => {
      if (mine !== rendering) return;
      const until = performance.now() + 8, pieces = document.createDocumentFragment();
      while (spans.length < sentences.length && performance.now() < until) {
        const at = spans.length, one = sentences[at];
        if (one[3] !== number) {
          number = one[3];
          // A text that begins with a heading has its title there.
          if (!at && headings.has(number)) {
            paragraph = $("chapter-title");
            paragraph.replaceChildren();
          } else {
            paragraph = make(headings.has(number) ? "h3" : "p");
            if (breaks.has(number)) paragraph.className = "scene";
            pieces.append(paragraph);
          }
        } else paragraph.append(joins(sentences[at - 1][0], one[0]) ? "" : " ");
        const span = make("span", { className: "s", tabIndex: at === focus ? 0 : -1 }, one[0]);
        span.dataset.n = at;
        if (at === now) span.setAttribute("aria-current", "true");
        spans.push(span);
        paragraph.append(span);
      }
      room.append(pieces);
      if (spans.length < sentences.length) requestAnimationFrame(some);
      else then?.();
    };
    some();
  };
  const script = /[\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]/;
  const joins = (before, after) => script.test(before.slice(-1)) || script.test(after[0] ?? ""); // no spaces between sentences

  const turn = (to, { time = 0, playing = false, scroll = true, announce = true } = {}) => {
    if (to < 0 || to >= book.chapters.length) return;
    const entry = book.chapters[to];
    audio.pause();
    open = to;
    chapter = text(to);
    starts = Float64Array.from(chapter.sentences, (one) => one[1]);
    track = now = -1;
    focus = 0;
    pending = told = null;
    window.CSS?.highlights?.delete("word");
    audio.removeAttribute("src");
    $("seek").max = entry.seconds;
    $("seek").disabled = $("play").disabled = !chapter.tracks.length;
    $("length").textContent = clock(entry.seconds);
    head(entry);
    sound();
    for (const link of $("chapters").querySelectorAll("a")) {
      if (Number(link.dataset.at) === to) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    $("previous-chapter").disabled = !to;
    $("next-chapter").disabled = to === book.chapters.length - 1;
    following = scroll;
    $("back").hidden = true;
    render(() => { show(true); if (scroll && time > 0) bring(false); });
    if (scroll) ($("main").getBoundingClientRect().top < 0 || !wide.matches) && $("main").scrollIntoView({ behavior: "instant" });
    if (chapter.tracks.length) seek(time);
    following = true;
    if (announce) say(entry.title);
    session(entry);
    if (playing) play();
  };
  const head = (entry) => {
    const count = book.chapters.filter((one) => one.number !== null).length;
    $("kicker").textContent = [entry.number === null ? "" : `Chapter ${entry.number} of ${count}`, length(entry.seconds)].filter(Boolean).join(" · ");
    $("chapter-title").textContent = entry.title;
    $("playing").textContent = entry.title;
    $("missing").hidden = !chapter.missing;
    $("missing").textContent = chapter.missing;
    const next = book.chapters[open + 1];
    $("next-link").hidden = !next;
    if (next) {
      $("next-link").href = `#${next.id}`;
      $("next-link").textContent = `Next: ${next.title}`;
    }
  };

  const sound = () => {
    const { wave, levels, files } = chapter;
    played = null;
    $("levels").replaceChildren();
    $("sound").hidden = !wave && !levels.length && !files.length;
    $("sound").querySelector("summary").textContent = levels.length ? `Sound: ${levels[0].told}, ${judged(levels)}` : "Sound and files";
    picture();
  };
  const picture = () => { // drawn when it is looked at
    if (!$("sound").open || $("levels").firstChild) return;
    const { wave, target, profile, levels, files } = chapter, entry = book.chapters[open];
    const inside = [];
    if (wave) {
      const step = 960 / wave.peaks.length;
      const path = wave.peaks.map((peak, at) => `M${((at + 0.5) * step).toFixed(1)} ${(60 - peak * 0.6 - 0.4).toFixed(1)}v${(peak * 1.2 + 0.8).toFixed(1)}`).join("");
      const height = (level) => (Math.min(60, -level) * 2).toFixed(1); // 0 LUFS at the upper edge, -60 at the lower
      const line = wave.loud.map((level, at) => `${(((at + 0.5) * 960) / wave.loud.length).toFixed(1)},${height(level)}`).join(" ");
      played = draw("rect", { width: 0, height: 120 });
      const svg = draw("svg", { class: "wave", viewBox: "0 0 960 120", preserveAspectRatio: "none", role: "img", "aria-label": `Waveform and loudness of ${entry.title}` },
        draw("clipPath", { id: "played" }, played), draw("path", { d: path }), draw("path", { d: path, class: "played", "clip-path": "url(#played)" }),
        draw("polyline", { points: line }));
      if (target !== null) svg.append(draw("path", { class: "goal", d: `M0 ${height(target)}H960` }));
      svg.addEventListener("click", (event) => {
        const box = svg.getBoundingClientRect();
        seek(((event.clientX - box.left) / box.width) * seconds());
      });
      inside.push(svg);
      const minus = (level) => String(level).replace("-", "−");
      inside.push(make("p", { className: "key" }, make("span", {}, make("i"), "waveform"), make("span", {}, make("i", { className: "loud" }), "momentary loudness"),
        ...(target === null ? [] : [make("span", {}, make("i", { className: "goal" }), `${profile}: ${minus(target)} LUFS`)])));
    }
    for (const one of levels) {
      const row = ([name, measured, asked, right]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", { className: right ? "" : "missed" }, right ? measured : `${measured} (not as asked)`), make("td", {}, asked));
      inside.push(make("div", { className: "scroll" }, make("table", {},
        make("caption", {}, one.file),
        make("thead", {}, make("tr", {}, ...["Level", "Measured", "Asked for"].map((name) => make("th", { scope: "col" }, name)))),
        make("tbody", {}, ...one.rows.map(row)))));
    }
    const line = files.flatMap((one, at) => [at ? " · " : "", link(one)]);
    if (chapter.usd) line.push(line.length ? " · " : "", `${chapter.usd.toFixed(4)} USD`);
    if (line.length) inside.push(make("p", {}, ...line));
    $("levels").replaceChildren(...inside);
    show(true);
  };
  const judged = (levels) => {
    const missed = levels.flatMap((one) => one.rows).filter((row) => !row[3]).length;
    return missed ? `${missed} ${missed === 1 ? "level" : "levels"} not as asked for` : "all levels as asked for";
  };
  const link = ([href, what, bytes]) => make("a", { href, download: "" }, [what, size(bytes)].filter(Boolean).join(", "));

  const session = (entry) => {
    if (!("mediaSession" in navigator) || !window.MediaMetadata) return;
    const artwork = book.cover ? [{ src: book.cover }] : [];
    navigator.mediaSession.metadata = new MediaMetadata({ title: entry.title, album: book.title, artist: book.people.map((one) => one[1]).join(", "), artwork });
  };

  // Going about

  const sentence = (at, playing = !audio.paused) => {
    const one = chapter.sentences[Math.max(0, Math.min(chapter.sentences.length - 1, at))];
    if (!one || !chapter.tracks.length) return;
    following = true;
    $("back").hidden = true;
    seek(one[1]);
    if (playing) play();
    try { history.replaceState(null, "", `#${book.chapters[open].id}:${chapter.sentences.indexOf(one) + 1}`); } catch { /* no matter */ }
  };
  const rove = (at, move = true) => {
    if (!spans[at]) return;
    if (spans[focus]) spans[focus].tabIndex = -1;
    focus = at;
    spans[at].tabIndex = 0;
    if (move) spans[at].focus();
  };
  const address = () => { // #chapter-3:12 is the twelfth sentence there
    const [, id, number] = /^#([^:]+)(?::(\d+))?$/.exec(location.hash) ?? [];
    const at = book.chapters.findIndex((one) => one.id === id);
    if (at < 0) return null;
    return { at, time: number ? text(at).sentences[number - 1]?.[1] ?? 0 : 0 };
  };
  const other = (by) => turn(open + by, { playing: !audio.paused });

  // Retakes

  const shell = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`);
  const folder = () => { // opened from a disk, the page knows where it stands
    if (location.protocol !== "file:") return book.folder;
    try {
      const path = decodeURIComponent(location.pathname).replace(/\/[^/]*$/, "");
      return /^\/[A-Za-z]:/.test(path) ? path.slice(1) : path || "/";
    } catch { return book.folder; }
  };
  const command = (at) => {
    const out = folder(), place = `${book.chapters[open].name}:${at + 1}`;
    return `narrate retake ${shell(out.startsWith("-") ? `./${out}` : out)} ${place.startsWith("-") ? `--at=${shell(place)}` : `--at ${shell(place)}`}`;
  };
  const retake = (at) => {
    const one = chapter.sentences[at];
    if (!one) return;
    $("retake-text").textContent = one[0];
    $("retake-place").textContent = [book.chapters[open].title, `sentence ${at + 1}`, one[4] ? `line ${one[4]}` : "", clock(one[1])].filter(Boolean).join(", ");
    $("command").textContent = command(at);
    $("copied").textContent = "";
    $("retake").showModal();
    $("copy").focus();
  };
  const copy = async () => {
    const text = $("command").textContent;
    let done = false;
    try {
      await navigator.clipboard.writeText(text);
      done = true;
    } catch {
      const field = make("textarea", { value: text, readOnly: true, className: "unseen" });
      $("retake").append(field);
      field.select();
      done = document.execCommand("copy");
      field.remove();
      $("copy").focus();
    }
    if (!done) getSelection().selectAllChildren($("command"));
    $("copied").textContent = done ? "Copied." : "Copy it from above.";
    say($("copied").textContent);
  };

  // What somebody does

  const on = (id, does, event = "click") => $(id).addEventListener(event, does);
  on("play", toggle);
  on("rewind", () => seek(position() - SKIP));
  on("forward", () => seek(position() + SKIP));
  on("previous-sentence", () => back());
  on("next-sentence", () => sentence(now + 1));
  on("previous-chapter", () => other(-1));
  on("next-chapter", () => other(1));
  on("seek", () => seek(Number($("seek").value)), "input");
  on("speed", () => { speed($("speed").value); keep(); }, "change");
  on("back", () => follow(true));
  on("mark", () => retake(Math.max(0, now)));
  on("flag", () => retake(Number($("flag").dataset.n)));
  on("copy", copy);
  on("retake-close", () => $("retake").close());
  on("help-open", () => $("help").showModal());
  on("help-close", () => $("help").close());
  on("dark", () => theme($("dark").getAttribute("aria-pressed") === "true" ? "light" : "dark", true));
  on("keys-on", () => remember("keys", $("keys-on").checked), "change");
  for (const id of ["retake", "help"]) { // a press beside a dialog closes it; the end of the one that opened it does not
    let pressed = false;
    const beside = (event) => {
      const box = $(id).getBoundingClientRect();
      return event.clientX < box.left || event.clientX > box.right || event.clientY < box.top || event.clientY > box.bottom;
    };
    on(id, (event) => { pressed = event.target === $(id) && beside(event); }, "pointerdown");
    on(id, (event) => { if (pressed && beside(event)) $(id).close(); });
  }
  const back = () => sentence(now > 0 && position() - starts[now] < 1.5 ? now - 1 : now);

  const which = (event) => {
    const span = event.target.closest?.(".s");
    return span ? Number(span.dataset.n) : null;
  };
  let held = 0, heldOne = false;
  on("article", (event) => {
    const at = which(event);
    if (at === null || heldOne || !getSelection().isCollapsed) return;
    rove(at);
    sentence(at, true);
  });
  on("article", (event) => {
    const at = which(event);
    heldOne = false;
    clearTimeout(held);
    if (at !== null && event.pointerType === "touch") held = setTimeout(() => { heldOne = true; retake(at); }, 600);
  }, "pointerdown");
  for (const event of ["pointerup", "pointercancel", "pointermove"]) on("article", (one) => { if (event !== "pointermove" || Math.hypot(one.movementX, one.movementY) > 3) clearTimeout(held); }, event);
  on("article", (event) => {
    const at = which(event);
    // With a mouse the browser's own menu stays; a finger or the context key means the sentence.
    if (at === null || event.pointerType === "mouse" || event.button === 2) return;
    event.preventDefault();
    if (!$("retake").open) retake(at);
    heldOne = true;
  }, "contextmenu");
  on("article", (event) => {
    const at = which(event);
    if (at === null || event.pointerType !== "mouse") return;
    const box = spans[at].getClientRects()[0], flag = $("flag");
    if (!box) return;
    flag.dataset.n = at;
    flag.style.top = `${box.top + box.height / 2 - 18 - flag.parentElement.getBoundingClientRect().top}px`;
    flag.hidden = false;
  }, "pointerover");
  on("main", () => { $("flag").hidden = true; }, "pointerleave");
  on("sound", () => { $("flag").hidden = true; picture(); }, "toggle");
  on("article", (event) => {
    const at = which(event);
    if (at === null || event.ctrlKey || event.metaKey || event.altKey) return;
    const does = {
      Enter: () => sentence(at, true),
      ArrowDown: () => rove(at + 1),
      ArrowUp: () => rove(at - 1),
      ContextMenu: () => retake(at),
      F10: () => event.shiftKey && retake(at),
    }[event.key];
    if (!does) return;
    event.preventDefault();
    leave();
    does();
  }, "keydown");

  const keys = {
    " ": toggle, k: toggle, ArrowLeft: () => seek(position() - SKIP), ArrowRight: () => seek(position() + SKIP),
    ",": () => back(), ".": () => sentence(now + 1), "[": () => other(-1), "]": () => other(1),
    "-": () => faster(-1), "+": () => faster(1), "=": () => faster(1), f: () => follow(true), d: () => $("dark").click(),
    m: () => retake($("article").contains(document.activeElement) ? focus : Math.max(0, now)), "?": () => $("help").showModal(),
  };
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (["PageUp", "PageDown", "Home", "End", "ArrowUp", "ArrowDown"].includes(event.key)) leave();
    const field = event.target.closest("input, select, textarea, summary, a, button");
    if (!$("keys-on").checked || !keys[event.key] || (field && (event.key === " " || event.key.startsWith("Arrow")))) return;
    if (field?.matches("select")) return;
    event.preventDefault();
    keys[event.key]();
  });
  for (const event of ["wheel", "touchmove"]) addEventListener(event, leave, { passive: true });
  addEventListener("pointerdown", (event) => { if (event.target === document.documentElement) leave(); });
  addEventListener("hashchange", () => {
    const to = address();
    if (to?.at === open) {
      following = true;
      $("back").hidden = true;
      seek(to.time);
      bring();
    } else if (to) turn(to.at, { time: to.time, playing: !audio.paused });
  });
  addEventListener("pagehide", keep);
  $("chapters").addEventListener("click", (event) => {
    const link = event.target.closest("a");
    // The same address again is no change of address.
    if (!link || link.hash !== location.hash) return;
    following = true;
    seek(0);
    scrollTo({ top: $("article").getBoundingClientRect().top + scrollY - 40, behavior: "instant" });
  });

  audio.addEventListener("loadedmetadata", () => {
    if (pending !== null) audio.currentTime = pending;
    pending = null;
  });
  audio.addEventListener("play", () => {
    $("play").classList.add("on");
    $("play").setAttribute("aria-label", "Pause");
    $("back").hidden = following;
    bring();
    frame ||= requestAnimationFrame(tick);
  });
  audio.addEventListener("pause", () => {
    $("play").classList.remove("on");
    $("play").setAttribute("aria-label", "Play");
    $("back").hidden = true;
    keep();
  });
  audio.addEventListener("timeupdate", () => show(false));
  audio.addEventListener("error", trouble);
  audio.addEventListener("ended", () => {
    if (track + 1 < chapter.tracks.length) {
      seek(chapter.tracks[track + 1][1]);
      play();
    } else onward();
  });
  const onward = () => {
    let next = open + 1;
    while (next < book.chapters.length && !book.chapters[next].seconds) next += 1;
    if (next < book.chapters.length) turn(next, { playing: true, scroll: following });
    else keep();
  };
  if ("mediaSession" in navigator) {
    const handlers = { play, pause: () => audio.pause(), previoustrack: () => other(-1), nexttrack: () => other(1), seekbackward: () => seek(position() - SKIP), seekforward: () => seek(position() + SKIP) };
    for (const [name, does] of Object.entries(handlers)) {
      try { navigator.mediaSession.setActionHandler(name, does); } catch { /* not known there */ }
    }
  }

  const theme = (name, chosen) => {
    document.documentElement.dataset.theme = name;
    $("dark").setAttribute("aria-pressed", String(name === "dark"));
    if (chosen) remember("theme", name);
  };
  const night = matchMedia("(prefers-color-scheme: dark)");
  theme(recall("theme") ?? (night.matches ? "dark" : "light"), false);
  night.addEventListener("change", () => { if (!recall("theme")) theme(night.matches ? "dark" : "light", false); });

  // The page itself

  const fill = (id, list, items) => {
    $(id).hidden = !items.length;
    $(id).querySelector(list).append(...items.flat());
  };
  const front = () => {
    if (book.cover) {
      $("cover").src = book.cover;
      $("cover").alt = `Cover of ${book.title}`;
      $("cover").hidden = false;
    }
    for (const id of ["title", "text", "chapter-title", "chapters", "retake-text", "playing"]) {
      $(id).lang = book.language;
      $(id).dir = id === "text" || id === "retake-text" ? book.direction : "auto";
    }
    $("chapters").dir = book.direction;
    $("people").append(...book.people.map(([what, name]) => make("li", {}, `${what} `, make("bdi", {}, name))));
    const count = book.chapters.filter((one) => one.number !== null).length;
    $("total").textContent = `${length(book.seconds)}, ${count} ${count === 1 ? "chapter" : "chapters"}`;
    $("chapters").append(...book.chapters.map((one, at) => {
      const link = make("a", { href: `#${one.id}` }, make("span", {}, one.title), make("span", {}, one.seconds ? clock(one.seconds) : "–"));
      link.dataset.at = at;
      return make("li", {}, link);
    }));
    fill("files", "ul", book.files.map((one) => make("li", {}, link(one))));
    fill("facts", "dl", book.facts.map(([what, so]) => [make("dt", {}, what), make("dd", {}, so)]));
    fill("left-out", "dl", book.leftOut.map(([what, why]) => [make("dt", {}, what), make("dd", {}, why)]));
    $("contents").open = wide.matches || book.chapters.length <= 6;
  };

  front();
  $("keys-on").checked = recall("keys") ?? true;
  const before = recall(book.id), asked = address();
  if (speeds.includes(before?.speed)) speed(before.speed);
  if (asked) turn(asked.at, { time: asked.time, announce: false });
  else if (before && book.chapters[before.chapter]) turn(before.chapter, { time: before.time || 0, announce: false, scroll: before.time > 0 });
  else if (book.chapters.length) turn(0, { scroll: false, announce: false });
})();
