import { useQuery, useQueryClient, type QueryClient } from "@tanstack/react-query";
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

export const leavingKey = ["leaving"];

/**
 * From "Sign out" on: the pages are gone, so that none asks what an ended session may not, and who signs in next is not led to what the
 * one before had open.
 */
export function useLeaving(): boolean {
  return useQuery({ queryKey: leavingKey, queryFn: () => false, initialData: false, staleTime: Infinity }).data;
}

/** What was answered to somebody is not for who comes next. */
const forget = (client: QueryClient) => client.removeQueries({ predicate: ({ queryKey: [first] }) => first !== "session" && first !== leavingKey[0] });

export function useSignOut() {
  const client = useQueryClient();
  return async () => {
    client.setQueryData(leavingKey, true);
    await client.cancelQueries();
    try {
      await post("/sessions/current:end");
      client.setQueryData(["session"], null);
    } catch (error) {
      client.setQueryData(leavingKey, false);
      await client.invalidateQueries({ queryKey: ["session"] }); // it may have ended elsewhere
      throw error;
    } finally {
      forget(client);
    }
  };
}

/** By a password or a link. */
export function useSignIn() {
  const client = useQueryClient();
  return async (path: string, body: unknown) => {
    const session = await post<Session>(path, body);
    await client.cancelQueries(); // what was asked before would say that nobody is signed in
    forget(client); // the former session may have ended by itself
    client.setQueryData(["session"], session);
    client.setQueryData(leavingKey, false);
  };
}
