// Lines over time, drawn by uPlot from what two looks at the server differ in.

import { html, useEffect, useRef } from "./vendor/htm-preact.mjs"

const HEIGHT = 160
const PALETTE = ["--line-1", "--line-2", "--line-3"]

// `samples`: times in seconds, then the values of each line.
export const Chart = ({ title, unit, lines, samples }) => {
  const place = useRef(null)
  const plot = useRef(null)
  useEffect(() => {
    const style = getComputedStyle(document.documentElement)
    const ink = style.getPropertyValue("--ink").trim()
    const grid = { stroke: style.getPropertyValue("--edge").trim(), width: 1 }
    plot.current = new window.uPlot(
      {
        width: place.current.clientWidth || 300,
        height: HEIGHT,
        series: [{}, ...lines.map((label, index) => ({ label, stroke: style.getPropertyValue(PALETTE[index]).trim(), width: 2 }))],
        axes: [{ stroke: ink, grid }, { stroke: ink, grid, size: 60 }],
        scales: { y: { range: (plot, least, most) => [0, Math.max(1, most * 1.1)] } },
      },
      samples,
      place.current
    )
    const watch = new ResizeObserver(() => plot.current.setSize({ width: place.current.clientWidth || 300, height: HEIGHT }))
    watch.observe(place.current)
    return () => {
      watch.disconnect()
      plot.current.destroy()
    }
  }, [])
  useEffect(() => plot.current.setData(samples), [samples])
  const newest = lines.map((line, index) => `${line} ${samples[index + 1].at(-1) ?? "unknown"}`).join(", ")
  return html`<figure><figcaption>${title} <span class="hint">${unit}</span></figcaption>
    <div ref=${place} role="img" aria-label=${`${title}: now ${newest} ${unit}`}></div></figure>`
}
