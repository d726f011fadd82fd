import { useQuery, useQueryClient } from "@tanstack/react-query";
import { createContext, useContext } from "react";

import { get, post, Problem, type Role, type Session } from "./api";

/** Who is signed in; null: nobody. */
export function useSessionQuery() {
  return useQuery({
    queryKey: ["session"],
    queryFn: async () => {
      try {
        return await get<Session>("/sessions/current");
      } catch (error) {
        if (error instanceof Problem && error.status === 401) return null;
        throw error;
      }
    },
    staleTime: 60_000,
  });
}

export const SessionContext = createContext<Session | null>(null);

export function useSession(): Session {
  const session = useContext(SessionContext);
  if (!session) throw new Error("outside of a session");
  return session;
}

/** Hides what the API would refuse anyway. */
export function useMay(role: "operator" | "admin" | "auditor"): boolean {
  const roles: Role[] = useSession().roles;
  if (role === "auditor" && roles.includes("AUDITOR")) return true;
  return roles.includes("ADMIN") || (role === "operator" && roles.includes("OPERATOR"));
}

export function useSignOut() {
  const client = useQueryClient();
  return async () => {
    try {
      await post("/sessions/current:end");
    } finally {
      await client.cancelQueries();
      client.setQueryData(["session"], null); // the pages go, and only then what they showed
      client.removeQueries({ predicate: (query) => query.queryKey[0] !== "session" });
    }
  };
}
