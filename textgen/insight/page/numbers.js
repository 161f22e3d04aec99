// Numbers as the page writes them.

import { isChinese } from "./words.js";

export const number = (value, digits = 3) => (value === null ? "–" : value.toFixed(digits).replace("-", "−"));
export const signed = (value, digits = 3) => (value === null ? "–" : (value > 0 ? "+" : "") + number(value, digits));
const margin = (value, error, digits) => (value === null || error === null ? "" : ` ± ${number(error, digits)}`);
/** A number and its standard error, which is null where it is unknown. */
export const withError = (value, error, digits = 3) => number(value, digits) + margin(value, error, digits);
export const signedWithError = (value, error, digits = 3) => signed(value, digits) + margin(value, error, digits);
export const count = (value) => value.toLocaleString(isChinese() ? "zh" : "en");
export const round = (value) => count(+value.toPrecision(3));
export const percent = (value) => (value > 0 && value < 1e-4 ? tickText(+value.toPrecision(2))
  : `${number(100 * value, Math.abs(value) < 0.1 ? 2 : 1)}${isChinese() ? "%" : " %"}`);

const SUPERSCRIPTS = { "-": "⁻", ...Object.fromEntries([..."⁰¹²³⁴⁵⁶⁷⁸⁹"].map((sign, digit) => [digit, sign])) };

export function tickText(value) {
  if (value !== 0 && (Math.abs(value) >= 1e4 || Math.abs(value) < 1e-3)) {
    const [digits, power] = value.toExponential(1).split("e"), raised = [...String(+power)].map((sign) => SUPERSCRIPTS[sign]).join("");
    return (digits === "1.0" ? "10" : `${digits}·10`) + raised;
  }
  return String(+value.toPrecision(4)).replace("-", "−");
}
