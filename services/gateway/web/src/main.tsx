import "bootstrap/dist/css/bootstrap.min.css";
import "./style.css";

import { QueryCache, QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { BrowserRouter } from "react-router-dom";

import { Problem } from "./api";
import { App } from "./App";
import { applyTheme } from "./theme";

applyTheme();

const client = new QueryClient({
  queryCache: new QueryCache({
    onError: (error, query) => {
      // The session ended meanwhile: the sign-in page takes over (App asks who is there).
      if (error instanceof Problem && error.status === 401 && query.queryKey[0] !== "session")
        void client.invalidateQueries({ queryKey: ["session"] });
    },
  }),
  defaultOptions: {
    queries: {
      staleTime: 2000,
      retry: (count, error) => count < 2 && !(error instanceof Problem && error.status >= 400 && error.status < 500),
    },
  },
});

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <QueryClientProvider client={client}>
      <BrowserRouter future={{ v7_startTransition: true, v7_relativeSplatPath: true }}>
        <App />
      </BrowserRouter>
    </QueryClientProvider>
  </StrictMode>,
);
