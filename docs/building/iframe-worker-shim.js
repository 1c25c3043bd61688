/* Browsers refuse web workers on pages that are opened from a folder (file://). There, the script of the site's search
   runs in a hidden frame, which gets the functions of a worker that the script calls. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(script) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.documentElement.append(frame);
      this.scope = frame.contentWindow;
      this.page = frame.contentDocument;
      this.page.open();
      this.page.write("<!doctype html><title>search</title>");
      this.page.close();
      this.scope.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      this.scope.importScripts = (...urls) =>
        urls.reduce((before, url) => before.then(() => this.load(url)), Promise.resolve());
      this.ready = this.load(script);
    }

    load(url) {
      return new Promise((resolve, reject) => {
        const element = this.page.createElement("script");
        element.src = url;
        element.onload = resolve;
        element.onerror = reject;
        this.page.head.append(element);
      });
    }

    postMessage(data) {
      this.ready.then(() => this.scope.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {}
  };
}
