// One dashboard as a page: each panel in its place on the grid, drawn by Grafana's own components.
//
// Grafana publishes components for stat, time series, table and text; bar charts are drawn as its bar gauge, and
// heatmaps are only named. `window.picture` holds the dashboard, the answers by panel and target, and the time range.

import '@fontsource/inter/400.css';
import '@fontsource/inter/500.css';
import {
  FieldType,
  VizOrientation,
  createTheme,
  dateTime,
  formattedValueToString,
  getFieldDisplayValues,
  renderMarkdown,
} from '@grafana/data';
import { initPluginTranslations } from '@grafana/i18n';
import { BarGauge, BigValue, GlobalStyles, PanelChrome, ThemeContext, TimeSeries, VizRepeater } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import { createRoot } from 'react-dom/client';

import { asItIs, framesOf, prepareRegistries } from './frames.js';

const { dashboard, answers, from, to, width } = window.picture;
const theme = createTheme({ colors: { mode: 'dark' } });
const range = { from: dateTime(from), to: dateTime(to), raw: { from: dateTime(from), to: dateTime(to) } };
const [ROW, GAP, COLUMNS] = [30, 8, 24];

function Words({ panel, width, height }) {
  const html = { __html: renderMarkdown(panel.options.content) };
  return <div className="markdown-html" style={{ width, height, overflow: 'hidden' }} dangerouslySetInnerHTML={html} />;
}

function Note({ children }) {
  return <div style={{ padding: 16, color: theme.colors.text.secondary }}>{children}</div>;
}

function Stat({ panel, frames, width, height }) {
  const { options, fieldConfig } = panel;
  const reduced = { reduceOptions: options.reduceOptions, replaceVariables: asItIs, theme, sparkline: true };
  return (
    <VizRepeater
      source={frames}
      getValues={() => getFieldDisplayValues({ ...reduced, fieldConfig, data: frames, timeZone: 'utc' })}
      orientation={options.orientation}
      width={width}
      height={height}
      renderValue={({ value, width, height, count }) => (
        <BigValue
          value={value.display}
          sparkline={value.sparkline}
          colorMode={options.colorMode}
          graphMode={options.graphMode}
          justifyMode={options.justifyMode}
          textMode={options.textMode}
          count={count}
          theme={theme}
          width={width}
          height={height}
        />
      )}
    />
  );
}

function Bars({ panel, frames: [frame], width, height }) {
  const names = frame.fields.find((field) => field.name === panel.options.xField);
  const numbers = frame.fields.find((field) => field.type === FieldType.number);
  const title = (row) => formattedValueToString(names.display(names.values[row]));
  return (
    <VizRepeater
      source={frame}
      getValues={() => numbers.values.map((value, row) => ({ ...numbers.display(value), title: title(row) }))}
      orientation={VizOrientation.Horizontal}
      itemSpacing={4}
      width={width}
      height={height}
      renderValue={({ value, width, height, alignmentFactors }) => (
        <BarGauge
          value={value}
          field={numbers.config}
          orientation={VizOrientation.Horizontal}
          displayMode="basic"
          text={{ titleSize: 12, valueSize: 12 }}
          alignmentFactors={alignmentFactors}
          theme={theme}
          width={width}
          height={height}
        />
      )}
      getAlignmentFactors={(all) => ({ title: longest(all, (one) => one.title), text: longest(all, formattedValueToString) })}
    />
  );
}

function longest(all, text) {
  return all.map(text).reduce((one, other) => (other.length > one.length ? other : one), '');
}

function Lines({ panel, frames, width, height }) {
  const { legend } = panel.options;
  return <TimeSeries frames={frames} timeRange={range} timeZone="utc" legend={legend} width={width} height={height} />;
}

function Cells({ panel, frames, width, height }) {
  return <TableNG data={frames[0]} width={width} height={height} fieldConfig={panel.fieldConfig} timeRange={range} />;
}

const KINDS = { stat: Stat, timeseries: Lines, table: Cells, barchart: Bars };

function Content({ panel, frames, width, height }) {
  if (panel.type === 'text') {
    return <Words panel={panel} width={width} height={height} />;
  }
  const Kind = KINDS[panel.type];
  if (!Kind) {
    return <Note>A {panel.type}, which isn&rsquo;t among the components that Grafana publishes.</Note>;
  }
  if (!frames.some((frame) => frame.fields.some((field) => field.type === FieldType.number && field.values.length))) {
    return <Note>No data</Note>;
  }
  return <Kind panel={panel} frames={frames} width={width} height={height} />;
}

function placed({ x, y, w, h }) {
  const column = (width + GAP) / COLUMNS;
  return {
    position: 'absolute',
    left: GAP + x * column,
    top: GAP + y * (ROW + GAP),
    width: w * column - GAP,
    height: h * (ROW + GAP) - GAP,
  };
}

function Placed({ panel, frames }) {
  const place = placed(panel.gridPos);
  if (panel.type === 'row') {
    return <h5 style={{ ...place, lineHeight: `${ROW}px`, margin: 0 }}>{panel.title}</h5>;
  }
  const padding = panel.type === 'table' ? 'none' : 'md';
  return (
    <div style={place}>
      <PanelChrome title={panel.title} description={panel.description} width={place.width} height={place.height} padding={padding}>
        {(width, height) => <Content panel={panel} frames={frames} width={width} height={height} />}
      </PanelChrome>
    </div>
  );
}

async function draw() {
  await initPluginTranslations('grafana');
  prepareRegistries();
  const panels = await Promise.all(
    dashboard.panels.map(async (panel) => ({
      panel,
      frames: panel.targets ? await framesOf(panel, answers[panel.id], to, theme) : [],
    })),
  );
  createRoot(document.getElementById('page')).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      {panels.map((one) => (
        <Placed key={one.panel.id} {...one} />
      ))}
    </ThemeContext.Provider>,
  );
}

draw();
