import { useEffect, useState } from "react";
import type { PolicyNow } from "../../api/types";
import { type Difference, type Document, differences, type Json, onTop, withValue } from "../../lib/policy";

interface Base {
  version: number;
  document: Document;
}

export interface Draft {
  /** What the changes were made from. */
  base: Base;
  document: Document;
  changes: Difference[];
  set: (path: string, value: Json | undefined) => void;
  /** Takes a whole document in, as of an older version. */
  take: (document: Document) => void;
  discard: () => void;
  /** Puts the changes on top of a newer version. */
  rebase: (newer: PolicyNow) => void;
}

function baseOf(policy: PolicyNow): Base {
  return { version: policy.version, document: policy.document as unknown as Document };
}

/** A policy that is being edited. What was typed is lost by saving, by discarding, and by nothing else. */
export function usePolicyDraft(newest: PolicyNow): Draft {
  const [base, setBase] = useState(() => baseOf(newest));
  const [document, setDocument] = useState(base.document);
  const changes = differences(base.document, document);
  const dirty = changes.length > 0;

  if (!dirty && newest.version > base.version) {
    const next = baseOf(newest); // nothing was typed yet: the page shows what is in force
    setBase(next);
    setDocument(next.document);
  }
  useEffect(() => {
    if (!dirty) return;
    const ask = (event: BeforeUnloadEvent) => event.preventDefault();
    window.addEventListener("beforeunload", ask);
    return () => window.removeEventListener("beforeunload", ask);
  }, [dirty]);

  return {
    base,
    document,
    changes,
    set: (path, value) => setDocument((now) => withValue(now, path, value)),
    take: setDocument,
    discard: () => setDocument(base.document),
    rebase: (newer) => {
      const next = baseOf(newer);
      setBase(next);
      setDocument(onTop(next.document, changes));
    },
  };
}
