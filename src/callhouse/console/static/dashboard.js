// Draws the tables of the dashboard as charts; whatever is drawn leads where its number in the table does.
(() => {
  "use strict";
  const charts = [...document.querySelectorAll("[data-chart]")];
  if (!charts.length || typeof echarts === "undefined") return;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const probe = document.createElement("i");
  const color = (name) => {
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  };
  const follow = (link) => link && location.assign(link.href);
  const count = (calls) => `${Number(calls).toLocaleString("en")} call${Number(calls) === 1 ? "" : "s"}`;

  // The tooltip is drawn, not made of HTML, so that no text in it can be anything else.
  const look = () => ({
    animation: false,
    textStyle: { color: color("--dim"), fontFamily: getComputedStyle(document.body).fontFamily },
    tooltip: {
      renderMode: "richText", confine: true, backgroundColor: color("--card"), borderColor: color("--strong-line"),
      textStyle: { color: color("--text"), fontSize: 13 },
    },
  });
  const axis = (more) => ({
    axisLine: { lineStyle: { color: color("--line") } }, axisTick: { show: false },
    axisLabel: { color: color("--dim") }, splitLine: { lineStyle: { color: color("--line") } }, ...more,
  });

  const course = () => {
    const rows = [...document.querySelectorAll("#course tbody tr")].map((row) => ({
      label: row.querySelector("th").textContent,
      calls: row.querySelector("[data-calls]"),
      before: row.querySelector("[data-before]"),
    }));
    const past = rows.map((row) => (row.before && row.before.dataset.before !== "" ? Number(row.before.dataset.before) : null));
    const option = {
      ...look(),
      grid: { left: 8, right: 8, top: 12, bottom: 4, outerBoundsMode: "same" },
      xAxis: axis({ type: "category", data: rows.map((row) => row.label), splitLine: { show: false } }),
      yAxis: axis({ type: "value", minInterval: 1, axisLine: { show: false } }),
      series: [
        { type: "bar", name: "Calls", data: rows.map((row) => Number(row.calls.dataset.calls)), barMaxWidth: 46,
          itemStyle: { color: color("--info"), borderRadius: [3, 3, 0, 0] }, cursor: "pointer" },
        { type: "line", name: "Before", data: past, symbolSize: 5, cursor: "pointer",
          lineStyle: { color: color("--strong-line"), width: 2, type: "dashed" }, itemStyle: { color: color("--strong-line") } },
      ],
    };
    option.tooltip.trigger = "axis";
    option.tooltip.formatter = ([bar, line]) =>
      `${bar.name}\n${count(bar.value)}${line && line.value != null ? `\nbefore: ${count(line.value)}` : ""}`;
    return [option, (at) => rows[at.dataIndex][at.seriesIndex ? "before" : "calls"].querySelector("a")];
  };

  const heat = () => {
    const table = document.getElementById("heat");
    const rows = [...table.tBodies[0].rows];
    const days = rows.map((row) => row.cells[0].textContent);
    const cells = rows.flatMap((row, y) => [...row.querySelectorAll("[data-calls]")].map((cell, x) => [x, y, Number(cell.dataset.calls)]));
    const option = {
      ...look(),
      grid: { left: 44, right: 8, top: 4, bottom: 24 },
      xAxis: axis({ type: "category", data: [...Array(24).keys()].map((hour) => String(hour).padStart(2, "0")), axisLine: { show: false }, splitLine: { show: false } }),
      yAxis: axis({ type: "category", data: days, inverse: true, axisLine: { show: false }, splitLine: { show: false } }),
      visualMap: { type: "continuous", show: false, min: 0, max: Number(table.dataset.most) || 1,
        inRange: { color: [color("--heat-0"), color("--heat-4"), color("--heat-7")] } },
      series: [{ type: "heatmap", data: cells, itemStyle: { borderColor: color("--card"), borderWidth: 2, borderRadius: 3 },
        emphasis: { itemStyle: { borderColor: color("--text") } }, cursor: "pointer" }],
    };
    option.tooltip.formatter = ({ value: [hour, day, calls] }) => `${days[day]}, ${String(hour).padStart(2, "0")}:00 – ${String((hour + 1) % 24).padStart(2, "0")}:00\n${count(calls)}`;
    return [option, (at) => rows[at.value[1]].querySelectorAll("[data-calls]")[at.value[0]].querySelector("a")];
  };

  const kinds = { course, heat };
  for (const place of charts) {
    const chart = echarts.init(place, null, { renderer: "canvas" });
    chart.on("finished", () => place.dataset.drawn = "");
    const draw = () => chart.setOption(kinds[place.dataset.chart]()[0], true);
    draw();
    chart.on("click", (at) => follow(kinds[place.dataset.chart]()[1](at)));
    if (place.dataset.chart === "course") {
      // What stands above a small bar leads where the bar does.
      const canvas = chart.getZr();
      const column = (at) => chart.containPixel("grid", [at.offsetX, at.offsetY]) ? chart.convertFromPixel({ xAxisIndex: 0 }, at.offsetX) : null;
      canvas.on("mousemove", (at) => canvas.setCursorStyle(column(at) === null ? "default" : "pointer"));
      canvas.on("click", (at) => {
        if (!at.target && column(at) !== null) follow(kinds.course()[1]({ dataIndex: column(at), seriesIndex: 0 }));
      });
    }
    dark.addEventListener("change", draw);
    new ResizeObserver(() => chart.resize()).observe(place);
  }
  for (const table of document.querySelectorAll(".as-table")) table.open = false;
})();
