
// The code stands behind the # of the link, which no server is sent. It goes into the form, and out
// of the address bar and the history.
(function () {
  var code = window.location.hash.slice(1);
  if (!code) return;
  document.getElementById("code").value = code;
  document.getElementById("paste").hidden = true;
  window.history.replaceState(null, "", window.location.pathname);
  document.querySelector("button").focus();
})();
