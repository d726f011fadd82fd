/**
 * The filters of a list. They live in the address, so a list can be shared and gone back to.
 *
 * The router draws a new address a moment after it was set. Who sets a filter therefore starts from the address itself,
 * never from what was last drawn: two filters set in that moment would otherwise leave only the second.
 */
import { useEffect, useRef, useState } from "react";
import { useLocation, useNavigate } from "react-router-dom";

/** Sets one filter; none, or an empty one, takes it away. */
type SetFilter = (name: string, value: string | null) => void;

const addressed = () => new URLSearchParams(window.location.search);

/** What the address asks for, and how to ask for something else. Another filter means the first page again. */
export function useFilters(): [URLSearchParams, SetFilter] {
  const { pathname, search } = useLocation();
  const navigate = useNavigate();
  return [new URLSearchParams(search), (name, value) => {
    if (window.location.pathname !== pathname) return; // the page is being left
    const after = addressed();
    if (name !== "page") after.delete("page");
    if (value) after.set(name, value);
    else after.delete(name);
    navigate({ search: after.toString() }, { replace: name !== "page" });
  }];
}

/** The text of a field whose filter is set when typing has paused. */
export function useTyped(name: string, [params, set]: ReturnType<typeof useFilters>): [string, (text: string) => void] {
  const value = params.get(name) ?? "";
  const [typed, setTyped] = useState(value);
  const told = useRef(value); // what the address was told last
  const latest = useRef(set);
  useEffect(() => {
    latest.current = set;
  });
  useEffect(() => {
    if (value === told.current || value !== (addressed().get(name) ?? "")) return;
    told.current = value; // by a link, or by going back
    setTyped(value);
  }, [name, value]);
  useEffect(() => {
    const text = typed.trim();
    if (text === told.current) return;
    const timer = window.setTimeout(() => {
      told.current = text;
      latest.current(name, text);
    }, 300);
    return () => window.clearTimeout(timer);
  }, [name, typed]);
  return [typed, setTyped];
}
