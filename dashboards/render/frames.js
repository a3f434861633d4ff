// From Prometheus's answers to the frames that a panel shows: as Grafana's Prometheus data source makes them, then
// through Grafana's own transformations, units and thresholds.
//
// Law: what a panel's JSON says is taken from there, and nothing about how it looks is said here.

import {
  FieldType,
  Registry,
  applyFieldOverrides,
  cacheFieldDisplayNames,
  identityOverrideProcessor,
  standardFieldConfigEditorRegistry,
  standardTransformers,
  standardTransformersRegistry,
  toDataFrame,
  transformDataFrame,
} from '@grafana/data';
import { lastValueFrom } from 'rxjs';

export const asItIs = (text) => text;
const STANDARD = ['unit', 'decimals', 'min', 'max', 'noValue', 'thresholds', 'mappings', 'color', 'displayName'];

// What a panel's own settings are called; each kind of panel has its own, and reads no other.
const option = (path, isCustom) => ({
  id: isCustom ? `custom.${path}` : path,
  path,
  name: path,
  isCustom,
  process: identityOverrideProcessor,
  shouldApply: () => true,
});

export function prepareRegistries() {
  const byId = new Map(Object.values(standardTransformers).map((one) => [one.id, one])); // some have two names
  standardTransformersRegistry.setInit(() =>
    [...byId.values()].map((one) => ({ ...one, transformation: async () => one })),
  );
  standardFieldConfigEditorRegistry.setInit(() => STANDARD.map((path) => option(path, false)));
}

function options({ defaults, overrides }) {
  const overridden = overrides.flatMap(({ properties }) => properties.map(({ id }) => id));
  const ofPanel = overridden.filter((id) => id.startsWith('custom.')).map((id) => id.replace('custom.', ''));
  const paths = new Set([...Object.keys(defaults.custom ?? {}), ...ofPanel]);
  return new Registry(() => [...STANDARD.map((path) => option(path, false)), ...[...paths].map((path) => option(path, true))]);
}

// A legend as the data source writes it: a template, or by itself the labels, which Grafana then words.
function legend(template, labels, expr) {
  if (template === '__auto') {
    return Object.keys(labels).length ? undefined : expr;
  }
  return template.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => labels[label] ?? '');
}

function lineFrames(target, series) {
  return series.map(({ metric: { __name__, ...labels }, values }) =>
    toDataFrame({
      refId: target.refId,
      fields: [
        { name: 'Time', type: FieldType.time, values: values.map(([seconds]) => seconds * 1000) },
        {
          name: __name__ ?? 'Value',
          type: FieldType.number,
          labels,
          config: { displayNameFromDS: legend(target.legendFormat, labels, target.expr) },
          values: values.map(([, value]) => (value === 'NaN' ? null : Number(value))),
        },
      ],
    }),
  );
}

function tableFrames(target, samples, to, isOneOfMany) {
  const labels = [...new Set(samples.flatMap(({ metric }) => Object.keys(metric)))].sort();
  const column = (label) => ({
    name: label,
    type: label === 'le' ? FieldType.number : FieldType.string,
    values: samples.map(({ metric }) => (label === 'le' ? Number(metric.le) : (metric[label] ?? ''))),
  });
  const fields = [
    { name: 'Time', type: FieldType.time, values: samples.map(() => to) },
    ...labels.map(column),
    {
      name: isOneOfMany ? `Value #${target.refId}` : 'Value',
      type: FieldType.number,
      values: samples.map(({ value }) => Number(value)),
    },
  ];
  return samples.length ? [toDataFrame({ refId: target.refId, fields })] : [];
}

export async function framesOf(panel, answers, to, theme) {
  const answered = panel.targets.filter(({ refId }) => answers[refId].length);
  const raw = answered.flatMap((target) =>
    target.instant
      ? tableFrames(target, answers[target.refId], to, answered.length > 1)
      : lineFrames(target, answers[target.refId]),
  );
  const data = await lastValueFrom(transformDataFrame(panel.transformations ?? [], raw, { interpolate: asItIs }));
  const frames = applyFieldOverrides({
    data,
    fieldConfig: panel.fieldConfig,
    fieldConfigRegistry: options(panel.fieldConfig),
    replaceVariables: asItIs,
    theme,
    timeZone: 'utc',
  });
  cacheFieldDisplayNames(frames);
  return frames;
}
